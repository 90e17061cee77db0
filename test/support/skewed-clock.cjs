/** `node --require`: the clock of this process and its threads is `SKEIN_TEST_SKEW_MS` off. Timers are not. */
const skew = Number(process.env.SKEIN_TEST_SKEW_MS);
const RealDate = Date;
globalThis.Date = class SkewedDate extends RealDate {
  constructor(...given) {
    super(...(given.length === 0 ? [RealDate.now() + skew] : given));
  }
  static now() {
    return RealDate.now() + skew;
  }
};
