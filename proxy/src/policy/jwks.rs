//! Public keys of those who sign tokens, from a file or a URL (RFC 7517), and what a signature is held against.
//!
//! RS256, ES256 and EdDSA with Ed25519: what is signed with a key of one kind is never read as another, because the kind
//! belongs to the key and the token's word has to agree. Keys that are none of these, or for encryption, are passed over.

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
const FILE_BYTES_MAX: u64 = 256 * 1024;

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
    /// A key is broken.
    #[error("has a key that is broken: {0}")]
    Key(&'static str),
    /// There is nothing to hold a signature against.
    #[error("has no key for RS256, ES256 or EdDSA, or more than {KEYS_MAX}")]
    Count,
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
    keys: Vec<WrittenKey>,
}

#[derive(Deserialize)]
struct WrittenKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
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
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut text)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(KeysError::Long);
        }
        Self::parse(&text)
    }

    /// Reads a set.
    ///
    /// # Errors
    /// The same.
    pub fn parse(text: &[u8]) -> Result<Self, KeysError> {
        let written: Written = serde_json::from_slice(text)?;
        let mut keys = Vec::new();
        for key in written.keys {
            keys.extend(key.read()?);
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
    fn read(self) -> Result<Option<Key>, KeysError> {
        let bytes = |text: &Option<String>, what| {
            let decoded = text.as_deref().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            decoded.ok_or(KeysError::Key(what))
        };
        let sized = |bytes: Vec<u8>, what| (bytes.len() == 32).then_some(bytes).ok_or(KeysError::Key(what));
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Ok(None);
        }
        let (material, algorithm) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (bytes(&self.n, "n")?, bytes(&self.e, "e")?);
                if !(256..=1024).contains(&n.len()) {
                    return Err(KeysError::Key("n has not 2048 to 8192 bits"));
                }
                (Material::Rsa { n, e }, "RS256")
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (
                    sized(bytes(&self.x, "x")?, "x")?,
                    sized(bytes(&self.y, "y")?, "y")?,
                );
                (Material::P256([&[4][..], &x, &y].concat()), "ES256")
            }
            ("OKP", Some("Ed25519")) => (Material::Ed25519(sized(bytes(&self.x, "x")?, "x")?), "EdDSA"),
            _ => return Ok(None),
        };
        // A key for another algorithm is not for this one.
        if self.alg.as_deref().is_some_and(|alg| alg != algorithm) {
            return Ok(None);
        }
        Ok(Some(Key {
            id: self.kid,
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
