"""What the user can mend."""


class UserError(Exception):
  """A mistake of the user's: the mains print it as one line and exit 2."""


class LostError(UserError):
  """Other processes are gone, or cannot be reached."""
