/** Arithmetic by recursive descent, so that no text from a model is ever evaluated as code. */
export function calculate(expression: string): number {
  const symbols = expression.match(/\d+(?:\.\d+)?|[-+*/()]|\S/g) ?? [];
  let next = 0;
  const take = (...wanted: string[]): string | undefined =>
    wanted.includes(symbols[next] ?? "") ? symbols[next++] : undefined;

  function sum(): number {
    let value = product();
    for (let sign = take("+", "-"); sign !== undefined; sign = take("+", "-")) {
      const right = product();
      value = sign === "+" ? value + right : value - right;
    }
    return value;
  }

  function product(): number {
    let value = factor();
    for (let sign = take("*", "/"); sign !== undefined; sign = take("*", "/")) {
      const right = factor();
      value = sign === "*" ? value * right : value / right;
    }
    return value;
  }

  function factor(): number {
    if (take("-")) return -factor();
    if (take("(")) {
      const value = sum();
      if (!take(")")) throw new Error(`Missing ")" in "${expression}"`);
      return value;
    }
    const value = Number(symbols[next++]);
    if (Number.isNaN(value)) throw new Error(`Not arithmetic: "${expression}"`);
    return value;
  }

  const value = sum();
  if (next < symbols.length) throw new Error(`Not arithmetic: "${expression}"`);
  return value;
}
