//! What becomes of files: names, faults, warnings, and what stays the same.

#[path = "../../tests/certificates/mod.rs"]
mod certificates;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use self::certificates::{Folder, params};
use super::files::Source;
use super::profile::Profile;
use super::*;

fn settings(certificates: &[(PathBuf, PathBuf)]) -> Settings {
    let files = |(certificate, key): &(PathBuf, PathBuf)| CertificateFiles {
        certificate: certificate.clone(),
        key: key.clone(),
        staple: None,
        wanted: None,
    };
    Settings {
        certificates: certificates.iter().map(files).collect(),
        profile: Profile::Intermediate,
        refuse_unknown_names: false,
        clients: None,
        http2: false,
    }
}

fn load(settings: &Settings) -> Result<Arc<Termination>, Vec<Fault>> {
    Termination::load(settings, SystemTime::now())
}

/// What is wrong, without the folder.
fn faults(settings: &Settings, folder: &Folder) -> Vec<String> {
    let faults = load(settings).expect_err("something is wrong");
    let shown = |fault: Fault| {
        let hint = fault.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        let text = format!("{} {}{hint}", fault.file.display(), fault.what);
        text.replace(&format!("{}/", folder.path().display()), "")
    };
    faults.into_iter().map(shown).collect()
}

#[test]
fn names_are_those_of_the_certificates() {
    let folder = Folder::new();
    let shop = folder.certificate("shop", &["Shop.example", "*.shop.example"]);
    let api = folder.certificate("api", &["api.shop.example"]);
    let mut both = settings(&[shop, api]);
    both.refuse_unknown_names = true;
    let strict = load(&both).unwrap();
    assert_eq!(strict.certificates()[0].names, ["shop.example", "*.shop.example"]);
    for (name, known) in [
        (Some("shop.example"), true),
        (Some("a.shop.example"), true),
        (Some("api.shop.example"), true),
        (Some("a.b.shop.example"), false),
        (Some("example"), false),
        (None, false),
    ] {
        assert_eq!(strict.knows(name), known, "{name:?}");
    }
    both.refuse_unknown_names = false;
    assert!(load(&both).unwrap().knows(None));
}

#[test]
fn what_is_wrong_with_a_file_is_told_of_that_file() {
    let folder = Folder::new();
    let (shop, key) = folder.certificate("shop", &["shop.example"]);
    let (_, other) = folder.certificate("api", &["api.example"]);
    let nothing = folder.file("nothing", "# nothing");
    let gone = folder.path().join("gone");
    let sealed = folder.file(
        "sealed",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let large = folder.file("large", vec![b'#'; 1024 * 1024 + 1]);
    for (certificate, key, expected) in [
        (
            &gone,
            &key,
            "gone cannot be read: No such file or directory (os error 2)",
        ),
        (&shop, &nothing, "nothing holds no private key in PEM"),
        (&nothing, &key, "nothing holds no certificate in PEM"),
        (&large, &key, "large cannot be read: it is larger than 1 MiB"),
        (
            &shop,
            &sealed,
            "sealed holds no private key in PEM (it has a passphrase; take it off with openssl pkey)",
        ),
    ] {
        let wrong = settings(&[(certificate.clone(), key.clone())]);
        assert_eq!(faults(&wrong, &folder), [expected]);
    }
    let mismatch = faults(&settings(&[(shop.clone(), other)]), &folder);
    assert!(
        mismatch[0].starts_with("api.key is not the key of the certificate in ") && mismatch.len() == 1,
        "{mismatch:?}"
    );
    let folder_as_file = faults(&settings(&[(folder.path().to_owned(), key.clone())]), &folder);
    assert!(
        folder_as_file[0].ends_with("cannot be read: it is not a file"),
        "{folder_as_file:?}"
    );
    let mut stapled = settings(&[(shop, key)]);
    stapled.certificates[0].staple = Some(nothing);
    assert_eq!(
        faults(&stapled, &folder),
        ["nothing holds no successful OCSP response in DER"]
    );
    stapled.certificates[0].staple = Some(folder.staple("staple"));
    assert!(load(&stapled).is_ok());
}

#[test]
fn a_certificate_whose_time_is_not_now_is_a_fault() {
    let folder = Folder::new();
    let mut old = params(&["old.example"]);
    (old.not_before, old.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let old = settings(&[folder.certificate_of("old", &old, &rcgen::PKCS_ECDSA_P256_SHA256)]);
    let said = faults(&old, &folder);
    assert!(
        said[0].starts_with("old.pem has expired on Jan  1 00:00:00 2021"),
        "{said:?}"
    );
    let then = |year: u64| SystemTime::UNIX_EPOCH + Duration::from_secs((year - 1970) * 31_557_600);
    let early = Termination::load(&old, then(2019)).expect_err("too early");
    assert!(
        early[0]
            .what
            .starts_with("is not valid before Jan  1 00:00:00 2020"),
        "{early:?}"
    );
    let loaded =
        Termination::load(&old, SystemTime::UNIX_EPOCH + Duration::from_secs(1_590_000_000)).unwrap();
    assert_eq!(loaded.certificates()[0].expires_s, 1_609_459_200);
}

#[test]
fn a_certificate_that_nobody_would_be_shown_is_a_fault_unless_its_key_is_of_another_kind() {
    let folder = Folder::new();
    let first = folder.certificate("first", &["shop.example"]);
    let again = folder.certificate("again", &["shop.example"]);
    let nameless = folder.certificate("nameless", &[]);
    assert_eq!(
        faults(&settings(&[first.clone(), again]), &folder),
        ["again.pem bears no name that a certificate before it does not bear, too"]
    );
    assert_eq!(
        faults(&settings(&[first.clone(), nameless.clone()]), &folder),
        ["nameless.pem bears no host name, so that nobody would ever be shown it"]
    );
    // The first one is for those who ask for no name.
    assert!(load(&settings(&[nameless, first.clone()])).is_ok());
    let other = folder.certificate_of("ed", &params(&["shop.example"]), &rcgen::PKCS_ED25519);
    assert!(load(&settings(&[first, other])).is_ok());
}

/// Orders a certificate for these names, before the files of `settings`. What is kept of it is `kept`.
fn order(settings: &mut Settings, folder: &Folder, names: &[&str], kept: Option<(PathBuf, PathBuf)>) {
    let file = folder.path().join("ordered.pem");
    let pem = kept.map(|(certificate, key)| [certificate, key].map(|file| fs::read(file).unwrap()).concat());
    if let Some(pem) = pem {
        folder.file("ordered.pem", pem);
    }
    let wanted = Wanted {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        proof: Proof::TlsAlpn,
        file: file.clone(),
    };
    let files = CertificateFiles {
        certificate: file.clone(),
        key: file,
        staple: None,
        wanted: Some(Arc::new(wanted)),
    };
    settings.certificates.insert(0, files);
}

/// What is shown to who asks for the name.
fn shown(termination: &Termination, name: &str) -> Vec<Source> {
    let kinds = termination.names.of_name(name).expect("a name that is known");
    kinds.iter().map(|(_, source)| *source).collect()
}

#[test]
fn what_stands_in_for_an_ordered_certificate_displaces_none_and_is_no_fault() {
    let folder = Folder::new();
    let file = folder.certificate("api", &["api.example"]);
    // Nothing is kept.
    let mut first = settings(std::slice::from_ref(&file));
    order(&mut first, &folder, &["shop.example", "api.example"], None);
    first.refuse_unknown_names = true;
    let made = load(&first).unwrap();
    assert_eq!(shown(&made, "api.example"), [Source::Files]);
    assert_eq!(shown(&made, "shop.example"), [Source::StandIn]);
    // Nobody is shown it, and that is a warning.
    let mut hidden = settings(std::slice::from_ref(&file));
    order(&mut hidden, &folder, &["api.example"], None);
    hidden.refuse_unknown_names = true;
    let hidden = load(&hidden).unwrap();
    let said = hidden.warnings().last().expect("a warning");
    assert!(said.contains("ordered.pem bears no name that"), "{said}");
    // One is kept that was issued for another name, too, or has expired.
    let both = ["shop.example", "api.example"];
    let mut old = params(&both);
    old.not_after = rcgen::date_time_ymd(2021, 1, 1);
    for (kept, wanted) in [
        (folder.certificate("more", &both), &both[..1]),
        (
            folder.certificate_of("old", &old, &rcgen::PKCS_ECDSA_P256_SHA256),
            &both[..],
        ),
    ] {
        let mut settings = settings(std::slice::from_ref(&file));
        order(&mut settings, &folder, wanted, Some(kept));
        let made = load(&settings).unwrap();
        assert_eq!(shown(&made, "api.example"), [Source::Files]);
        assert_eq!(shown(&made, "shop.example"), [Source::StandIn]);
    }
}

#[test]
fn what_was_issued_makes_no_fault_of_a_file_and_hides_none() {
    let folder = Folder::new();
    let names = ["shop.example"];
    let file = folder.certificate("file", &names);
    let again = folder.certificate("again", &names);
    let issued = folder.certificate("issued", &names);
    let mut one = settings(std::slice::from_ref(&file));
    order(&mut one, &folder, &names, Some(issued));
    let made = load(&one).unwrap();
    assert_eq!(shown(&made, "shop.example"), [Source::Issued, Source::Files]);
    // What is wrong without it is wrong with it.
    let mut two = settings(&[file, again]);
    two.certificates.insert(0, one.certificates.remove(0));
    let what = "again.pem bears no name that a certificate before it does not bear, too";
    assert_eq!(faults(&two, &folder), [what]);
}

#[test]
fn a_key_that_others_can_read_is_a_warning() {
    let folder = Folder::new();
    let files = folder.certificate("shop", &["shop.example"]);
    let settings = settings(std::slice::from_ref(&files));
    assert!(load(&settings).unwrap().warnings().is_empty());
    fs::set_permissions(&files.1, fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = load(&settings).unwrap().warnings().to_vec();
    assert!(
        warnings.len() == 1 && warnings[0].contains("shop.key") && warnings[0].contains("0644"),
        "{warnings:?}"
    );
    // The same holds for what was issued, which has its key with it.
    let mut issued = self::settings(&[]);
    order(&mut issued, &folder, &["shop.example"], Some(files));
    assert!(load(&issued).unwrap().warnings().is_empty());
    let file = &issued.certificates[0].key;
    fs::set_permissions(file, fs::Permissions::from_mode(0o604)).unwrap();
    let warnings = load(&issued).unwrap().warnings().to_vec();
    assert!(
        warnings.len() == 1 && warnings[0].contains("ordered.pem") && warnings[0].contains("0604"),
        "{warnings:?}"
    );
}

#[test]
fn it_is_the_same_for_as_long_as_settings_and_bytes_are() {
    let folder = Folder::new();
    let files = folder.certificate("shop", &["shop.example"]);
    let mut settings = settings(std::slice::from_ref(&files));
    let first = load(&settings).unwrap();
    assert!(first.is_same_as(&load(&settings).unwrap()));
    settings.profile = Profile::Modern;
    assert!(!first.is_same_as(&load(&settings).unwrap()));
    settings.profile = Profile::Intermediate;
    folder.certificate("shop", &["shop.example"]);
    assert!(!first.is_same_as(&load(&settings).unwrap()));
    assert_eq!(
        first.files().collect::<Vec<_>>(),
        [files.0.as_path(), files.1.as_path()]
    );
}

#[test]
fn authorities_of_clients_are_read_and_nothing_else_is_taken_for_one() {
    let folder = Folder::new();
    let mut settings = settings(&[folder.certificate("shop", &["shop.example"])]);
    let clients = |ca_file: PathBuf| ClientCertificates {
        ca_file,
        required: true,
    };
    settings.clients = Some(clients(folder.file("empty", "")));
    assert_eq!(faults(&settings, &folder), ["empty holds no certificate in PEM"]);
    settings.clients = Some(clients(folder.authority("ca.pem")));
    assert!(load(&settings).is_ok());
}
