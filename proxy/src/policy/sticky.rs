//! Users who stay with their slot of a cluster: which one stands in a cookie, signed so that nobody can choose for himself.
//!
//! The cookie says a slot and when it ends, nothing else: a slot is called by a hash of its primary's name, so it tells no
//! address, means the same to every proxy and after every restart, and binds nobody where that name is gone. What it does
//! is the engine's: [`foreshade_engine::balance`] stays within the slot and moves with its shift.
//!
//! It is no secret and no right, only a preference. So everything that is wrong with it makes the user a newcomer, who is
//! balanced and gets a new one: a signature that does not fit, an end that has passed, keys that are not there. That is
//! why nothing waits for the keys, either.
//!
//! Signed with HMAC-SHA256 over the cluster's name and all that is in it, compared in constant time. Which cookies are
//! renewed: those that have lost half of their time, and those that an older key has signed.

mod keys;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foreshade_contract::Name;
use foreshade_engine::moment::Moment;
use http::HeaderValue;
use xxhash_rust::xxh3::xxh3_64;

use self::keys::{KeyError, Keys, TAG_BYTES};
use super::followed::Watched;
use crate::request::RequestView;

/// The only form that there is: another one would be another number.
const FORM: u8 = 1;

/// The form, the slot, and the second since 1970 at which it ends; 0 where it does not.
const SAID_BYTES: usize = 1 + 8 + 8;

/// What a signature is for, so that a key that signs something else, too, signs no cookie by it.
const PURPOSE: &[u8] = b"foreshade sticky slot";

/// Which slot, whoever its primary is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u64);

impl Slot {
    /// The slot of a primary of this name.
    pub fn of(primary: &Name) -> Self {
        Self(xxh3_64(primary.as_str().as_bytes()))
    }
}

/// Which other sites' requests a browser sends the cookie with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// None.
    Strict,
    /// Those of links.
    Lax,
    /// All of them.
    None,
}

/// What the cookie is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The cluster whose slots it names.
    pub cluster: Name,
    /// Its name.
    pub cookie: String,
    /// Who signs.
    pub keys_file: PathBuf,
    /// How long it lives; as long as the browser where `None`.
    pub ttl: Option<Duration>,
    /// Browsers send it over TLS only.
    pub secure: bool,
    /// No page can read it.
    pub http_only: bool,
    /// With which other sites' requests it comes.
    pub same_site: SameSite,
    /// Under which path it comes.
    pub path: String,
}

/// Reads and writes the cookies of a cluster. Shared by all workers.
#[derive(Debug)]
pub struct Sticky {
    settings: Settings,
    keys: Arc<Watched<Keys, KeyError>>,
}

/// What a request says of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// Nothing: a newcomer.
    Nothing,
    /// This slot; `fresh` where the cookie needs no renewal.
    Slot {
        /// The slot.
        slot: Slot,
        /// Whether it is as good as new.
        fresh: bool,
    },
    /// Something that was not signed here, or has been changed.
    Invalid,
    /// A slot, once.
    Expired,
    /// Nobody can tell: there are no keys.
    Unreadable,
}

impl Sticky {
    /// Without keys yet.
    pub fn new(settings: Settings) -> Self {
        let keys = Arc::new(Watched::new(settings.keys_file.clone(), Keys::load));
        Self { settings, keys }
    }

    /// Reads the keys now, where that disturbs nobody: before the first request.
    pub(crate) fn read_keys(&self) {
        if self.keys.content().is_none() {
            self.keys.read();
        }
    }

    /// What a request says at a second since 1970.
    pub(crate) fn came(&self, view: &RequestView<'_>, now: Moment, unix_s: u64) -> Came {
        // Whether that has been done nobody waits for: the keys that are here are good enough.
        drop(self.keys.look(now, false));
        let keys = self.keys.content();
        let Some(keys) = keys.as_deref() else {
            return Came::Unreadable;
        };
        match view.cookie(&self.settings.cookie) {
            Some(value) => self.said(keys, value, unix_s),
            None => Came::Nothing,
        }
    }

    fn said(&self, keys: &Keys, value: &[u8], unix_s: u64) -> Came {
        let mut bytes = [0; SAID_BYTES + TAG_BYTES];
        if URL_SAFE_NO_PAD.decode_slice(value, &mut bytes) != Ok(bytes.len()) {
            return Came::Invalid;
        }
        let (said, tag) = bytes.split_at(SAID_BYTES);
        let Some(by) = keys.signed(&[PURPOSE, self.settings.cluster.as_str().as_bytes(), said], tag) else {
            return Came::Invalid;
        };
        let [form, rest @ ..] = said else {
            return Came::Invalid;
        };
        let mut numbers = rest
            .chunks_exact(8)
            .map(|chunk| chunk.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        let (Some(slot), Some(ends), FORM) = (numbers.next(), numbers.next(), *form) else {
            return Came::Invalid;
        };
        if ends != 0 && ends <= unix_s {
            return Came::Expired;
        }
        let ttl_s = self.settings.ttl.map(|ttl| ttl.as_secs());
        let lives_on = match ttl_s {
            None => ends == 0,
            Some(ttl_s) => ends.saturating_sub(unix_s) > ttl_s / 2,
        };
        Came::Slot {
            slot: Slot(slot),
            fresh: by == 0 && lives_on,
        }
    }

    /// The cookie for a slot; `None` where there is nothing to sign it with.
    pub(crate) fn cookie(&self, slot: Slot, unix_s: u64) -> Option<HeaderValue> {
        let keys = self.keys.content();
        let keys = keys.as_deref()?;
        let settings = &self.settings;
        let ttl_s = settings.ttl.map(|ttl| ttl.as_secs());
        let ends = ttl_s.map_or(0, |ttl_s| unix_s.saturating_add(ttl_s));
        let mut bytes = [&[FORM][..], &slot.0.to_be_bytes(), &ends.to_be_bytes()].concat();
        let tag = keys.sign(&[PURPOSE, settings.cluster.as_str().as_bytes(), &bytes]);
        bytes.extend_from_slice(tag.as_ref());
        let mut text = format!(
            "{}={}; Path={}",
            settings.cookie,
            URL_SAFE_NO_PAD.encode(bytes),
            settings.path
        );
        if let Some(ttl_s) = ttl_s {
            text.push_str(&format!("; Max-Age={ttl_s}"));
        }
        for (asked, attribute) in [(settings.secure, "; Secure"), (settings.http_only, "; HttpOnly")] {
            text.push_str(if asked { attribute } else { "" });
        }
        text.push_str(match settings.same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        });
        HeaderValue::try_from(text).ok()
    }

    /// In a line.
    pub fn in_words(&self) -> String {
        format!(
            "users stay with their slot, by the cookie {}",
            self.settings.cookie
        )
    }
}

impl PartialEq for Sticky {
    /// Equal where the cookies are, whatever has been read.
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use http::header::COOKIE;

    const NOW: u64 = 1_700_000_000;

    struct Stand {
        sticky: Sticky,
        file: PathBuf,
    }

    impl Stand {
        /// With these keys, each made of one letter.
        fn new(test: &str, letters: &str, ttl_s: Option<u64>) -> Self {
            let file = std::env::temp_dir().join(format!("foreshade-sticky-{}-{test}", std::process::id()));
            let _ = std::fs::remove_file(&file);
            let lines = letters
                .chars()
                .map(|letter| format!("{}\n", letter.to_string().repeat(44)));
            std::fs::write(&file, lines.collect::<String>()).unwrap();
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            let sticky = Sticky::new(Settings {
                cluster: "shop".parse().unwrap(),
                cookie: "slot".to_owned(),
                keys_file: file.clone(),
                ttl: ttl_s.map(Duration::from_secs),
                secure: true,
                http_only: true,
                same_site: SameSite::Lax,
                path: "/".to_owned(),
            });
            sticky.read_keys();
            Self { sticky, file }
        }

        fn cookie(&self, name: &str) -> String {
            let cookie = self.sticky.cookie(slot(name), NOW).unwrap();
            cookie.to_str().unwrap().to_owned()
        }

        fn came(&self, cookie: &str, unix_s: u64) -> Came {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, cookie.split(';').next().unwrap().parse().unwrap());
            let view = RequestView::of("GET", &headers);
            self.sticky.came(&view, Moment::from_micros(1), unix_s)
        }
    }

    impl Drop for Stand {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.file);
        }
    }

    fn slot(name: &str) -> Slot {
        Slot::of(&name.parse().unwrap())
    }

    fn stays(name: &str, fresh: bool) -> Came {
        let slot = slot(name);
        Came::Slot { slot, fresh }
    }

    #[test]
    fn what_was_signed_is_read_and_every_byte_of_it_counts() {
        let stand = Stand::new("bytes", "A", None);
        let cookie = stand.cookie("a");
        assert!(
            cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"),
            "{cookie}"
        );
        assert_eq!(stand.came(&cookie, NOW), stays("a", true));
        let value = cookie.split(';').next().unwrap().as_bytes();
        for at in "slot=".len()..value.len() {
            let mut other = value.to_vec();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(stand.came(&other, NOW), Came::Invalid, "{at}");
        }
        for other in ["slot=", "slot=a", "slot=\"\"", &format!("{}A", &cookie[..60])] {
            assert_eq!(stand.came(other, NOW), Came::Invalid, "{other}");
        }
        assert_eq!(stand.came("other=1", NOW), Came::Nothing);
    }

    #[test]
    fn a_cookie_ends_and_is_renewed_before_that() {
        let stand = Stand::new("ends", "A", Some(100));
        let cookie = stand.cookie("a");
        assert!(cookie.contains("; Max-Age=100;"), "{cookie}");
        for (later, came) in [
            (0, stays("a", true)),
            (49, stays("a", true)),
            (50, stays("a", false)),
            (99, stays("a", false)),
            (100, Came::Expired),
        ] {
            assert_eq!(stand.came(&cookie, NOW + later), came, "{later}");
        }
    }

    #[test]
    fn all_keys_are_taken_and_the_first_one_signs() {
        let (old, both, new) = (
            Stand::new("old", "A", None),
            Stand::new("both", "BA", None),
            Stand::new("new", "B", None),
        );
        let before = old.cookie("a");
        assert_eq!(both.came(&before, NOW), stays("a", false), "to be signed anew");
        assert_eq!(both.came(&both.cookie("a"), NOW), stays("a", true));
        assert_eq!(new.came(&both.cookie("a"), NOW), stays("a", true));
        assert_eq!(new.came(&before, NOW), Came::Invalid);
    }

    #[test]
    fn a_cookie_of_another_cluster_is_none_of_this_one() {
        let stand = Stand::new("cluster", "A", None);
        let mut settings = stand.sticky.settings.clone();
        settings.cluster = "reports".parse().unwrap();
        let other = Sticky::new(settings);
        other.read_keys();
        let cookie = other.cookie(slot("a"), NOW).unwrap();
        assert_eq!(stand.came(cookie.to_str().unwrap(), NOW), Came::Invalid);
    }

    #[test]
    fn without_keys_nothing_is_read_and_nothing_is_signed() {
        let stand = Stand::new("none", "", None);
        assert_eq!(stand.came("slot=abc", NOW), Came::Unreadable);
        assert_eq!(stand.sticky.cookie(slot("a"), NOW), None);
    }
}
