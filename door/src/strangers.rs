//! What is said to whoever may not come in, in the same words by every program.

use axum::extract::Request;
use axum::http::header::ORIGIN;
use axum::http::{HeaderValue, Method};

/// The challenge that goes with a 401 (RFC 6750).
pub const BEARER: HeaderValue = HeaderValue::from_static("Bearer");

/// What to do about a missing token.
pub const TOKEN_NEEDED: &str =
    "this needs the token: Authorization: Bearer <the content of the configured tokenFile>";

/// Why a browser is refused.
pub const WEB_PAGE: &str = "a web page may not give orders";

/// Whether a page in a browser sent this, and it is more than a look. Browsers send `Origin` with everything that is
/// not a plain look; operators' tools do not.
pub fn is_web_page(request: &Request) -> bool {
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    !looks && request.headers().contains_key(ORIGIN)
}
