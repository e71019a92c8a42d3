//! Public keys of those who sign tokens, from a file or a URL (RFC 7517), and what a signature is held against.
//!
//! RS256, ES256 and EdDSA with Ed25519: what is signed with a key of one kind is never read as another, because the kind
//! belongs to the key and the token's word has to agree. Keys that are none of these, or not for verifying, are
//! passed over. A broken key is a mistake in a file, whose owner sees it at once. In what is fetched it is somebody
//! else's, and no reason to know none of the others (RFC 7517 section 5).

pub mod fetch;
pub mod remote;

use std::path::Path;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// Most keys of a set.
pub const KEYS_MAX: usize = 64;

/// Longest file, and longest answer.
const FILE_BYTES_MAX: usize = 256 * 1024;

/// Keys that are tried for a token that names none.
const TRIED_MAX: usize = 4;

/// Why there are no keys in it.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It cannot be read.
    #[error("cannot be read")]
    Read(#[from] std::io::Error),
    /// It is too long.
    #[error("is longer than {FILE_BYTES_MAX} bytes")]
    Long,
    /// It is no set of keys.
    #[error("is no JSON Web Key Set")]
    Json(#[from] serde_json::Error),
    /// A key is broken: which one, counted from 1.
    #[error("has a key that is broken, number {0} of them")]
    Key(usize, #[source] KeyError),
    /// There is nothing to hold a signature against.
    #[error("has no key for RS256, ES256 or EdDSA, or more than {KEYS_MAX}")]
    Count,
}

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is no JSON Web Key.
    #[error("it is no JSON Web Key")]
    Json(#[from] serde_json::Error),
    /// This member of it.
    #[error("{0}")]
    Member(&'static str),
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// RSA with SHA-256, PKCS #1 version 1.5.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// A set of keys.
#[derive(Debug)]
pub struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The point, uncompressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Written {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct WrittenKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Reads a file.
    ///
    /// # Errors
    /// When there is nothing in it that a signature could be held against.
    pub fn load(path: &Path) -> Result<Self, KeysError> {
        use std::io::Read as _;
        let mut text = Vec::new();
        std::fs::File::open(path)?
            .take(FILE_BYTES_MAX as u64 + 1)
            .read_to_end(&mut text)?;
        if text.len() > FILE_BYTES_MAX {
            return Err(KeysError::Long);
        }
        Self::parse(&text)
    }

    /// Reads a set without the keys that are broken, and those beyond [`KEYS_MAX`]. With how many these are.
    ///
    /// # Errors
    /// It is no set, or nothing is left of it.
    pub fn parse_sound(text: &[u8]) -> Result<(Self, usize), KeysError> {
        let written: Written = serde_json::from_slice(text)?;
        let (mut keys, mut broken) = (Vec::new(), 0);
        for key in written.keys {
            match WrittenKey::read(key) {
                Ok(key) if keys.len() < KEYS_MAX => keys.extend(key),
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => broken += 1,
            }
        }
        match keys.is_empty() {
            true => Err(KeysError::Count),
            false => Ok((Self(keys), broken)),
        }
    }

    /// Reads a set.
    ///
    /// # Errors
    /// The same.
    pub fn parse(text: &[u8]) -> Result<Self, KeysError> {
        let written: Written = serde_json::from_slice(text)?;
        let mut keys = Vec::new();
        for (index, key) in written.keys.into_iter().enumerate() {
            keys.extend(WrittenKey::read(key).map_err(|why| KeysError::Key(index + 1, why))?);
        }
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(KeysError::Count);
        }
        Ok(Self(keys))
    }

    /// Whether a key of this name is among them.
    pub fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// Whether one of the keys that are meant has signed the message.
    pub fn signed(&self, algorithm: Algorithm, id: Option<&str>, message: &[u8], signature: &[u8]) -> bool {
        let meant = self
            .0
            .iter()
            .filter(|key| key.material.algorithm() == algorithm && (id.is_none() || key.id.as_deref() == id));
        meant
            .take(TRIED_MAX)
            .any(|key| key.material.signed(message, signature))
    }
}

impl WrittenKey {
    /// `None` for a key that is not for signatures, or not of a kind that is read here.
    fn read(value: serde_json::Value) -> Result<Option<Key>, KeyError> {
        let this: Self = serde_json::from_value(value)?;
        let bytes = |text: &Option<String>, what| {
            let decoded = text.as_deref().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            decoded.ok_or(KeyError::Member(what))
        };
        let sized = |bytes: Vec<u8>, what| (bytes.len() == 32).then_some(bytes).ok_or(KeyError::Member(what));
        let is_other = this.usage.as_deref().is_some_and(|usage| usage != "sig");
        let is_silent = |operations: &Vec<String>| operations.iter().all(|operation| operation != "verify");
        if is_other || this.key_ops.as_ref().is_some_and(is_silent) {
            return Ok(None);
        }
        let algorithm = match (this.kty.as_str(), this.crv.as_deref()) {
            ("RSA", _) => "RS256",
            ("EC", Some("P-256")) => "ES256",
            ("OKP", Some("Ed25519")) => "EdDSA",
            _ => return Ok(None),
        };
        // A key for another algorithm is not for this one, and need not look like one.
        if this.alg.as_deref().is_some_and(|alg| alg != algorithm) {
            return Ok(None);
        }
        let material = match algorithm {
            "RS256" => {
                let (n, e) = (bytes(&this.n, "n")?, bytes(&this.e, "e")?);
                if !(256..=1024).contains(&n.len()) {
                    return Err(KeyError::Member("n has not 2048 to 8192 bits"));
                }
                Material::Rsa { n, e }
            }
            "ES256" => {
                let (x, y) = (
                    sized(bytes(&this.x, "x")?, "x")?,
                    sized(bytes(&this.y, "y")?, "y")?,
                );
                Material::P256([&[4][..], &x, &y].concat())
            }
            _ => Material::Ed25519(sized(bytes(&this.x, "x")?, "x")?),
        };
        Ok(Some(Key {
            id: this.kid,
            material,
        }))
    }
}

impl Material {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            Self::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message, signature)
                .is_ok(),
            Self::Ed25519(point) => UnparsedPublicKey::new(&ED25519, point)
                .verify(message, signature)
                .is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    #[test]
    fn an_odd_key_is_a_mistake_in_a_file_and_no_reason_to_fetch_none_of_the_others() {
        for odd in [
            r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#,
            r#"{"kty":"EC","crv":"P-256","x":"AQAB"}"#,
            r#"{"kty":"OKP","crv":"Ed25519","kid":7,"x":"AQAB"}"#,
            "{}",
            "7",
        ] {
            let text = format!(r#"{{"keys":[{GOOD},{odd}]}}"#);
            let mistake = Keys::parse(text.as_bytes()).unwrap_err();
            assert!(matches!(mistake, KeysError::Key(2, _)), "{odd}: {mistake}");
            let (keys, broken) = Keys::parse_sound(text.as_bytes()).unwrap();
            assert!(keys.has("a") && broken == 1, "{odd}");
            let alone = format!(r#"{{"keys":[{odd}]}}"#);
            assert!(Keys::parse_sound(alone.as_bytes()).is_err(), "{odd}");
        }
        let many = format!(r#"{{"keys":[{}]}}"#, [GOOD; KEYS_MAX + 1].join(","));
        assert_eq!(Keys::parse_sound(many.as_bytes()).unwrap().1, 1);
    }

    #[test]
    fn a_key_that_is_for_something_else_is_passed_over_whatever_it_looks_like() {
        for other in [
            r#"{"kty":"RSA","alg":"RS512","n":"AQAB","e":"AQAB"}"#,
            r#"{"kty":"OKP","crv":"Ed25519","kid":"b","key_ops":["sign"],"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        ] {
            let keys = Keys::parse(format!(r#"{{"keys":[{other},{GOOD}]}}"#).as_bytes()).unwrap();
            assert!(keys.has("a") && !keys.has("b"), "{other}");
        }
    }
}
