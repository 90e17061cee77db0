/** Who asks. */

/** A user as the project's `authenticate` gave it, with what may be left out filled in. */
export interface AuthUser {
  readonly identity: string;
  readonly is_authenticated: boolean;
  readonly display_name: string;
  readonly permissions: readonly string[];
  readonly [extra: string]: unknown;
}
