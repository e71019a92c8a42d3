//! Who may ask: everybody, or whoever knows the token.
//!
//! The token is a bearer token (RFC 6750) out of a file that others cannot read, compared in constant time and never
//! logged; it is read once, at the start. Probes and scrapers often cannot send one, so what they ask may be open, as
//! the configuration says; an order never is. Without a token everything is open: then the socket or the loopback
//! address is the door.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use foreshade_settings::WithoutToken;

use crate::secret::{SecretError, read_secret};

/// Shortest token: sixteen characters of 64 are 96 bits.
const BYTES_MIN: usize = 16;

/// Longest token: any scheme's fits.
const BYTES_MAX: usize = 4096;

/// Why a file cannot be taken for a token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file is no secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// What is in it is no token.
    #[error("holds no token: one line of {BYTES_MIN} to {BYTES_MAX} visible characters")]
    Content,
}

/// What is asked of whoever asks. All clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    token: Option<Token>,
    without: Option<WithoutToken>,
    refused: Arc<AtomicU64>,
}

#[derive(Clone)]
struct Token(Arc<[u8]>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl Keys {
    /// The token in this file is asked for, but by what is open without.
    ///
    /// # Errors
    /// When the file is no token that only this program and its operators know.
    pub fn load(path: &Path, without: WithoutToken) -> Result<Self, TokenError> {
        Ok(Self {
            token: Some(Token(read_token(path)?.into())),
            without: Some(without),
            refused: Arc::default(),
        })
    }

    /// Requests that did not have the token.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether a request may come in. Who may not is counted.
    pub fn admit(&self, request: &Request) -> bool {
        let opens = self.opens(request);
        if !opens {
            self.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(
                path = request.uri().path(),
                "operator's request without the token"
            );
        }
        opens
    }

    fn opens(&self, request: &Request) -> bool {
        let Some(Token(token)) = &self.token else {
            return true;
        };
        let asked = asked(request.method(), request.uri().path());
        if asked.is_some_and(|asked| self.without >= Some(asked)) {
            return true;
        }
        presented(request.headers()).is_some_and(|shown| verify_slices_are_equal(shown, token).is_ok())
    }
}

/// The token in a file.
///
/// # Errors
/// When the file is no token that only this program and its operators know.
pub fn read_token(path: &Path) -> Result<Vec<u8>, TokenError> {
    // With the end of its line.
    let text = read_secret(path, BYTES_MAX + 2)?;
    let token = text.as_bytes().trim_ascii_end();
    if !(BYTES_MIN..=BYTES_MAX).contains(&token.len()) || !token.iter().all(u8::is_ascii_graphic) {
        return Err(TokenError::Content);
    }
    Ok(token.to_vec())
}

/// What is asked for; `None` for orders, which are never open.
fn asked(method: &Method, path: &str) -> Option<WithoutToken> {
    match (matches!(*method, Method::GET | Method::HEAD), path) {
        (false, _) => None,
        (true, "/livez" | "/healthz" | "/readyz") => Some(WithoutToken::Health),
        (true, "/metrics") => Some(WithoutToken::Metrics),
        (true, _) => Some(WithoutToken::Reading),
    }
}

/// The name of the scheme may be written in any case (RFC 9110, section 11.1).
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    /// A file of its own, removed when dropped.
    struct Secret(PathBuf);

    impl Secret {
        fn new(name: &str, content: &[u8], mode: u32) -> Self {
            let path = std::env::temp_dir().join(format!("foreshade-token-{}-{name}", std::process::id()));
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Self(path)
        }
    }

    impl Drop for Secret {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn load(name: &str, content: &[u8], mode: u32) -> Result<Keys, TokenError> {
        Keys::load(&Secret::new(name, content, mode).0, WithoutToken::Nothing)
    }

    #[test]
    fn a_file_that_others_can_read_or_change_is_no_secret() {
        for mode in [0o600, 0o400, 0o640, 0o440] {
            assert!(load("mode", b"0123456789abcdef\n", mode).is_ok(), "{mode:o}");
        }
        for mode in [0o604, 0o644, 0o602, 0o660, 0o620, 0o601] {
            let error = load("mode", b"0123456789abcdef\n", mode).unwrap_err();
            assert!(
                matches!(error, TokenError::Secret(SecretError::Mode(m)) if m == mode),
                "{error}"
            );
        }
    }

    #[test]
    fn a_token_is_one_line_of_visible_characters() {
        let long = vec![b'x'; BYTES_MAX];
        for content in [&b"0123456789abcdef"[..], b"0123456789abcdef\r\n", &long] {
            assert!(load("content", content, 0o600).is_ok(), "{content:?}");
        }
        let longer = vec![b'x'; BYTES_MAX + 1];
        for content in [
            &b""[..],
            b"\n",
            b"0123456789abcde",
            b"0123456789 abcdef",
            b"0123456789abcdef\nx",
            &longer,
        ] {
            let error = load("content", content, 0o600).unwrap_err();
            assert!(matches!(error, TokenError::Content), "{error}");
        }
        let missing = Keys::load(Path::new("/nowhere/token"), WithoutToken::Nothing);
        assert!(matches!(missing, Err(TokenError::Secret(SecretError::Read(_)))));
    }

    #[test]
    fn the_token_is_never_shown() {
        let keys = load("debug", b"0123456789abcdef", 0o600).unwrap();
        assert!(!format!("{keys:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn orders_are_never_open_and_each_word_includes_those_before_it() {
        use WithoutToken::{Health, Metrics, Nothing, Reading};
        let open = |without, method: Method, path: &str| {
            let mut keys = load("open", b"0123456789abcdef", 0o600).unwrap();
            keys.without = Some(without);
            let request = Request::builder().method(method).uri(path);
            keys.opens(&request.body(axum::body::Body::empty()).unwrap())
        };
        for (path, from) in [
            ("/livez", Health),
            ("/readyz", Health),
            ("/metrics", Metrics),
            ("/", Reading),
        ] {
            for without in [Nothing, Health, Metrics, Reading] {
                assert_eq!(
                    open(without, Method::GET, path),
                    without >= from,
                    "{path} {without:?}"
                );
                assert!(!open(without, Method::POST, path), "{path} {without:?}");
            }
        }
    }

    #[test]
    fn only_the_whole_token_opens() {
        let keys = load("whole", b"0123456789abcdef", 0o600).unwrap();
        let opens = |value: &'static [u8]| {
            let value = HeaderValue::from_bytes(value).unwrap();
            let request = Request::builder().uri("/").header(AUTHORIZATION, value);
            keys.opens(&request.body(axum::body::Body::empty()).unwrap())
        };
        for value in [&b"Bearer 0123456789abcdef"[..], b"bEARER  0123456789abcdef "] {
            assert!(opens(value));
        }
        for value in [
            &b""[..],
            b"Bearer ",
            b"Bearer 0123456789abcde",
            b"Bearer 0123456789abcdef0",
            b"Bearer 0123456789abcdeF",
            b"Basic 0123456789abcdef",
            b"0123456789abcdef",
            b"Bearer \xff123456789abcdef",
        ] {
            assert!(!opens(value), "{value:?}");
        }
    }
}
