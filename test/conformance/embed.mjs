// Texts are alike that share letters: a vector of how often each letter comes.
const vector = (text) =>
  Array.from(
    { length: 26 },
    (_, index) => text.toLowerCase().split(String.fromCharCode(97 + index)).length - 1 || 0.01,
  );

export const embed = (texts) => texts.map(vector);
