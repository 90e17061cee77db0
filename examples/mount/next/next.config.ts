/** Skein finds files of its own and starts threads: it must not be bundled. */
export default { serverExternalPackages: ["skein"] };
