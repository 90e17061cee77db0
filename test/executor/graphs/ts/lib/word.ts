export const word: string = "aliased";
