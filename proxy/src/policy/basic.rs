//! Users with names and passwords (RFC 7617).
//!
//! A hash of a password is slow on purpose, and a worker has no time to be slow in: passwords are checked on one thread of
//! the process's own, so an attack takes one processor at most. What was right is remembered for [`KNOWN_FOR`], by a keyed
//! digest of what was sent, so a user pays for a hash once a minute and not once a request. Requests with the same
//! credentials wait for one hash together. Whoever is wrong too often from one address is told to wait before a hash is
//! spent on him ([`ATTEMPTS`]); whoever is right gets his attempt back.
//!
//! Closed where anything fails: without a file, with one that others can read, or when the thread has too much to do,
//! nobody new is let in. The file is read by that thread, and again when it has changed; one that is broken then leaves the
//! last good one in force: who was let in still is, and the log says so.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foreshade_engine::moment::Moment;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue};
use rand::Rng as _;
use tokio::sync::oneshot;

use super::aside::{Lane, aside};
use super::followed::Followed;
use super::marks::Marks;
use super::rate::{Key, Limit, RateLimit};
use super::users::{PASSWORD_BYTES_MAX, Users};
use super::{Denial, Reason};
use crate::fields::Fields;
use crate::request::RequestView;

/// How long right credentials are remembered: so long a user who is taken out of the file may still come in.
pub const KNOWN_FOR: Duration = Duration::from_secs(60);

/// Credentials that are remembered at a time.
const KNOWN_MAX: usize = 10_000;

/// Requests that wait for one and the same hash.
const TOGETHER_MAX: usize = 1_000;

/// Wrong attempts of a client at once, and per second in the long run.
pub const ATTEMPTS: (u32, f64) = (10, 0.5);

/// Longest credentials, as they are sent.
const SENT_BYTES_MAX: usize = 4 * 1024;

/// A digest of what was sent.
type Tag = [u8; 32];

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What a browser shows to its user.
    pub realm: String,
    /// Who may come in.
    pub users_file: PathBuf,
    /// The header that tells endpoints who it is.
    pub user_header: Option<HeaderName>,
}

/// Asks for users, and knows some.
#[derive(Debug)]
pub struct Basic {
    settings: Settings,
    key: hmac::Key,
    /// Wrong attempts, by client.
    attempts: RateLimit,
    known: Mutex<HashMap<Tag, Known>>,
    /// Touched by the thread alone.
    read: Mutex<FileRead>,
}

/// What is known of credentials.
#[derive(Debug)]
enum Known {
    /// They are right.
    User(Arc<str>, Moment),
    /// They are being checked, for those.
    Checked(Vec<oneshot::Sender<Verdict>>),
}

#[derive(Debug, Default)]
struct FileRead {
    users: Option<Users>,
    file: Followed,
}

/// Whether credentials are right.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// They are this user's.
    Right(Arc<str>),
    /// They are nobody's.
    Wrong,
    /// Nobody could tell.
    Unknown,
}

/// What becomes of a request.
pub(crate) enum Asked {
    /// It comes from this user.
    User(Arc<str>),
    /// It goes no further.
    Denied(Denial),
    /// Somebody has to find out.
    Waits(Proof),
}

/// Credentials that are being checked.
#[derive(Debug)]
pub struct Proof {
    basic: Arc<Basic>,
    verdict: oneshot::Receiver<Verdict>,
}

/// What the thread is asked.
struct Job {
    basic: Arc<Basic>,
    tag: Tag,
    name: String,
    password: Vec<u8>,
    client: Option<std::net::IpAddr>,
    now: Moment,
}

impl Basic {
    /// Knows nobody yet.
    #[expect(clippy::expect_used, reason = "the name is a constant")]
    pub fn new(settings: Settings) -> Self {
        let mut key = [0; 32];
        rand::rng().fill_bytes(&mut key);
        let (burst, rate_rps) = ATTEMPTS;
        Self {
            settings,
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            attempts: RateLimit::new(Limit {
                name: "attempts".parse().expect("invariant: it is a name"),
                rate_rps,
                burst,
                key: Key::Client,
                keys: 16_384,
                dry_run: false,
                tells: false,
            }),
            known: Mutex::default(),
            read: Mutex::default(),
        }
    }

    /// Who sends a request.
    pub(crate) fn ask(self: &Arc<Self>, view: &RequestView<'_>, now: Moment) -> Asked {
        let Some((sent, name, password)) = credentials(view) else {
            return Asked::Denied(self.challenge());
        };
        let tag = self.tag(&sent);
        let (tell, verdict) = oneshot::channel();
        let mut known = self.known();
        match known.get_mut(&tag) {
            Some(Known::User(user, until)) if now < *until => return Asked::User(user.clone()),
            Some(Known::Checked(together)) if together.len() < TOGETHER_MAX => together.push(tell),
            Some(Known::Checked(_)) => return Asked::Denied(Denial::of(Reason::LoginBusy).come_back_in(1)),
            Some(Known::User(..)) | None => {
                let standing = self.attempts.take(view, now);
                if !standing.within {
                    let again_in_s = standing.again_in_s.max(1);
                    return Asked::Denied(Denial::of(Reason::TooManyAttempts).come_back_in(again_in_s));
                }
                make_room(&mut known, now);
                known.insert(tag, Known::Checked(vec![tell]));
                drop(known);
                let job = Job {
                    basic: self.clone(),
                    tag,
                    name,
                    password,
                    client: view.client,
                    now,
                };
                if !aside(Lane::Hashes, move || job.basic.check(&job)) {
                    self.known().remove(&tag);
                    // Nobody has looked at it.
                    self.attempts.give_back(view.client, now);
                    return Asked::Denied(Denial::of(Reason::LoginBusy).come_back_in(1));
                }
            }
        }
        Asked::Waits(Proof {
            basic: self.clone(),
            verdict,
        })
    }

    /// What an endpoint is told of the user, and not told: his credentials are for this proxy.
    pub fn mark(&self, user: &str, headers: Fields<'_>, marks: &mut Marks) {
        marks.remove(AUTHORIZATION);
        if let Some(name) = &self.settings.user_header {
            marks.replace(name, headers, HeaderValue::from_str(user).ok());
        }
    }

    /// In a line.
    pub fn in_words(&self) -> String {
        format!("asks for a user of {}", self.settings.users_file.display())
    }

    /// Asks for credentials. Source: RFC 7617 section 2.1.
    pub(crate) fn challenge(&self) -> Denial {
        let mut denial = Denial::of(Reason::Unauthorized);
        let value = format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.settings.realm);
        if let Ok(value) = HeaderValue::try_from(value) {
            denial.headers.insert(WWW_AUTHENTICATE, value);
        }
        denial
    }

    fn tag(&self, sent: &[u8]) -> Tag {
        let mut tag = [0; 32];
        for (place, byte) in tag.iter_mut().zip(hmac::sign(&self.key, sent).as_ref()) {
            *place = *byte;
        }
        tag
    }

    /// Checks credentials: on the thread for it, because it takes long.
    fn check(&self, job: &Job) {
        let verdict = {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            if read.refresh(&self.settings.users_file) {
                self.known().retain(|_, known| matches!(known, Known::Checked(_)));
            }
            match &read.users {
                None => Verdict::Unknown,
                Some(users) if users.knows(&job.name, &job.password) => {
                    Verdict::Right(job.name.as_str().into())
                }
                Some(_) => Verdict::Wrong,
            }
        };
        if !matches!(verdict, Verdict::Wrong) {
            self.attempts.give_back(job.client, job.now);
        }
        let mut known = self.known();
        let waiting = known.remove(&job.tag);
        if let Verdict::Right(user) = &verdict {
            known.insert(job.tag, Known::User(user.clone(), job.now + KNOWN_FOR));
        }
        drop(known);
        if let Some(Known::Checked(together)) = waiting {
            // Some may have gone.
            together
                .into_iter()
                .for_each(|tell| drop(tell.send(verdict.clone())));
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Tag, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Basic {
    /// Equal where they ask for the same, whomever they know.
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Proof {
    /// Waits for the verdict, and says of whom it was asked.
    pub(crate) async fn verdict(self) -> (Arc<Basic>, Verdict) {
        (self.basic, self.verdict.await.unwrap_or(Verdict::Unknown))
    }
}

impl FileRead {
    /// Reads the file if it has changed. True where there are other users now.
    fn refresh(&mut self, path: &std::path::Path) -> bool {
        let Some(users) = self.file.news(path, self.users.is_some(), Users::load) else {
            return false;
        };
        self.users = Some(users);
        true
    }
}

/// The one `Authorization` of a request, decoded, so that one user has one spelling; with name and password. `None` where
/// there is none that is whole.
fn credentials(view: &RequestView<'_>) -> Option<(Vec<u8>, String, Vec<u8>)> {
    let sent = view
        .headers
        .only(&AUTHORIZATION)
        .filter(|sent| sent.len() <= SENT_BYTES_MAX)?;
    let (scheme, token) = sent.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = STANDARD.decode(token.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (name, password) = decoded.split_at(colon);
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.contains(char::is_control))?;
    let password = password
        .get(1..)
        .filter(|password| password.len() <= PASSWORD_BYTES_MAX)?;
    let (name, password) = (name.to_owned(), password.to_vec());
    Some((decoded, name, password))
}

/// Forgets whose time is over, and somebody if that is not enough.
fn make_room(known: &mut HashMap<Tag, Known>, now: Moment) {
    if known.len() < KNOWN_MAX {
        return;
    }
    known.retain(|_, known| !matches!(known, Known::User(_, until) if *until <= now));
    if known.len() >= KNOWN_MAX {
        let some = known.iter().find(|(_, known)| matches!(known, Known::User(..)));
        if let Some(tag) = some.map(|(tag, _)| *tag) {
            known.remove(&tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::users::{ROUNDS_MIN, line};
    use http::HeaderMap;
    use std::os::unix::fs::PermissionsExt as _;

    struct Stand {
        basic: Arc<Basic>,
        path: PathBuf,
    }

    impl Stand {
        fn new(name: &str, users: &[(&str, &str)]) -> Self {
            let path = std::env::temp_dir().join(format!("foreshade-basic-{}-{name}", std::process::id()));
            let settings = Settings {
                realm: "shop".to_owned(),
                users_file: path.clone(),
                user_header: Some(HeaderName::from_static("x-user")),
            };
            let stand = Self {
                basic: Arc::new(Basic::new(settings)),
                path,
            };
            stand.write(users);
            stand
        }

        fn write(&self, users: &[(&str, &str)]) {
            let lines: Vec<_> = users
                .iter()
                .map(|(name, password)| line(name, password.as_bytes(), ROUNDS_MIN).unwrap())
                .collect();
            std::fs::write(&self.path, lines.join("\n")).unwrap();
            std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }

        fn ask(&self, credentials: &str, now_ms: u64) -> Asked {
            let value = format!("Basic {}", STANDARD.encode(credentials));
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::try_from(value).unwrap())]);
            let view = RequestView {
                client: "192.0.2.1".parse().ok(),
                ..RequestView::of("GET", &headers)
            };
            self.basic
                .ask(&view, Moment::from_micros(1_000_000 + now_ms * 1_000))
        }

        async fn verdict(&self, credentials: &str, now_ms: u64) -> Result<Verdict, Reason> {
            match self.ask(credentials, now_ms) {
                Asked::User(user) => Ok(Verdict::Right(user)),
                Asked::Denied(denial) => Err(denial.reason),
                Asked::Waits(proof) => Ok(proof.verdict().await.1),
            }
        }
    }

    impl Drop for Stand {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    #[tokio::test]
    async fn a_user_is_checked_once_and_then_known_for_a_minute() {
        let stand = Stand::new("known", &[("anna", "a:b")]);
        assert!(matches!(stand.ask("anna:a:b", 0), Asked::Waits(_)));
        let right = stand.verdict("anna:a:b", 0).await;
        assert!(matches!(right, Ok(Verdict::Right(user)) if &*user == "anna"));
        assert!(matches!(stand.ask("anna:a:b", 59_999), Asked::User(_)));
        assert!(matches!(stand.ask("anna:a:b", 60_000), Asked::Waits(_)));
        assert!(matches!(
            stand.verdict("anna:a", 60_000).await,
            Ok(Verdict::Wrong)
        ));
        assert!(matches!(
            stand.verdict("bob:a:b", 60_000).await,
            Ok(Verdict::Wrong)
        ));
    }

    #[tokio::test]
    async fn who_is_wrong_too_often_waits_and_who_is_right_does_not() {
        let stand = Stand::new("attempts", &[("anna", "right")]);
        for _ in 0..50 {
            // Right each time, long after he was forgotten.
            stand.basic.known().clear();
            assert!(matches!(
                stand.verdict("anna:right", 0).await,
                Ok(Verdict::Right(_))
            ));
        }
        for attempt in 0..ATTEMPTS.0 {
            let wrong = stand.verdict(&format!("anna:{attempt}"), 0).await;
            assert!(matches!(wrong, Ok(Verdict::Wrong)), "{attempt}");
        }
        assert!(matches!(
            stand.verdict("anna:other", 0).await,
            Err(Reason::TooManyAttempts)
        ));
        assert!(matches!(
            stand.verdict("anna:other", 2_000).await,
            Ok(Verdict::Wrong)
        ));
        assert!(
            matches!(stand.ask("anna:right", 2_000), Asked::User(_)),
            "whoever is known goes on"
        );
    }

    #[tokio::test]
    async fn without_a_sound_file_nobody_is_let_in_and_a_broken_one_leaves_the_last() {
        let stand = Stand::new("file", &[("anna", "right")]);
        std::fs::remove_file(&stand.path).unwrap();
        assert!(matches!(
            stand.verdict("anna:right", 0).await,
            Ok(Verdict::Unknown)
        ));
        stand.write(&[("anna", "right")]);
        assert!(matches!(
            stand.verdict("anna:right", 0).await,
            Ok(Verdict::Right(_))
        ));
        std::fs::write(&stand.path, "no users").unwrap();
        stand.basic.known().clear();
        assert!(matches!(
            stand.verdict("anna:right", 0).await,
            Ok(Verdict::Right(_))
        ));
        stand.write(&[("anna", "another"), ("bob", "new")]);
        assert!(matches!(stand.verdict("bob:new", 0).await, Ok(Verdict::Right(_))));
        assert!(
            matches!(stand.verdict("anna:right", 0).await, Ok(Verdict::Wrong)),
            "a changed file forgets all"
        );
    }

    #[test]
    fn what_is_no_credentials_is_asked_for_them() {
        let stand = Stand::new("none", &[]);
        for value in [
            None,
            Some("Bearer abc"),
            Some("Basic"),
            Some("Basic !!!"),
            Some("Basic YW5uYQ=="),
            Some("Basic AGE6Yg=="),
        ] {
            let headers: HeaderMap = value
                .map(|v| (AUTHORIZATION, v.parse().unwrap()))
                .into_iter()
                .collect();
            let asked = stand
                .basic
                .ask(&RequestView::of("GET", &headers), Moment::default());
            let Asked::Denied(denial) = asked else {
                panic!("{value:?}");
            };
            assert_eq!(denial.reason, Reason::Unauthorized);
            assert_eq!(
                denial.headers[WWW_AUTHENTICATE],
                "Basic realm=\"shop\", charset=\"UTF-8\""
            );
        }
        let mut twice = HeaderMap::new();
        for _ in 0..2 {
            twice.append(AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
        }
        let asked = stand
            .basic
            .ask(&RequestView::of("GET", &twice), Moment::default());
        assert!(matches!(asked, Asked::Denied(_)));
    }

    #[test]
    fn an_endpoint_hears_of_the_user_from_nobody_else() {
        let stand = Stand::new("mark", &[]);
        let mut headers = HeaderMap::new();
        for name in ["authorization", "x-user", "x_user", "x-users"] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("forged"));
        }
        let mut marks = Marks::default();
        stand.basic.mark("anna", Fields::from(&headers), &mut marks);
        marks.apply(&mut headers);
        assert_eq!(headers.get_all("x-user").iter().collect::<Vec<_>>(), ["anna"]);
        assert!(!headers.contains_key("authorization") && !headers.contains_key("x_user"));
        assert!(headers.contains_key("x-users"));
    }
}
