//! How operators are let in: proxy and controller open the same kind of door, so it is made once.
//!
//! A [`Door`] is an address or a socket; [`Keys`] say who may ask for what; [`serve()`] holds one conversation per
//! connection, within limits, so that a client that is slow or gone costs a bounded time; browsers may look, and give
//! no orders ([`is_web_page`]). What is asked and answered is the business of the program.

mod keys;
mod listen;
mod secret;
mod serve;
mod strangers;

pub use self::keys::{Keys, TokenError, read_token};
pub use self::listen::{Door, Heir, Listening, Remove, Stream};
pub use self::secret::{SecretError, read_secret};
pub use self::serve::{Life, Limits, serve};
pub use self::strangers::{BEARER, TOKEN_NEEDED, WEB_PAGE, is_web_page};
