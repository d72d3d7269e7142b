//! The cryptography: XChaCha20-Poly1305 with random nonces, and HMAC-SHA-256 for claims.

use std::fmt;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::store::StoreError;

/// The length of a nonce of `XChaCha20`, in bytes. It is long enough for random nonces.
const NONCE_BYTES: usize = 24;

/// The key of a subject: 32 random bytes.
///
/// `Debug` does not show the key.
#[derive(Clone, PartialEq, Eq)]
pub struct SubjectKey([u8; Self::BYTES]);

impl SubjectKey {
    /// The length of a key, in bytes.
    pub const BYTES: usize = 32;

    /// Creates a key from its bytes, which must be random.
    #[must_use]
    pub const fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Generates a key with the random number generator of the operating system.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the operating system has no random numbers.
    pub fn generate() -> Result<Self, StoreError> {
        random().map(Self)
    }

    /// Returns the bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Encrypts `plain`, and authenticates `context` with it. Returns the nonce and the ciphertext in Base64.
    ///
    /// # Errors
    ///
    /// [`StoreError::Setup`] if the operating system has no random numbers.
    pub fn seal(&self, plain: &[u8], context: &[u8]) -> Result<String, StoreError> {
        let nonce: [u8; NONCE_BYTES] = random()?;
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: context })
            .map_err(|_| StoreError::invalid("the personal data is too large to be encrypted"))?;
        let mut bytes = Vec::with_capacity(NONCE_BYTES + sealed.len());
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        Ok(STANDARD_NO_PAD.encode(bytes))
    }

    /// Decrypts a text that [`seal`](Self::seal) returned. Returns `None` if it was damaged, or sealed under another
    /// key or with another context.
    #[must_use]
    pub fn open(&self, sealed: &str, context: &[u8]) -> Option<Vec<u8>> {
        let bytes = STANDARD_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        self.cipher().decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: context }).ok()
    }

    /// Returns the keyed digest of the value of a claim.
    pub(super) fn digest(&self, name: &str, value: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC accepts keys of any length");
        // The name of a claim contains no `#`.
        for part in [name, "#", value] {
            mac.update(part.as_bytes());
        }
        STANDARD_NO_PAD.encode(mac.finalize().into_bytes())
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.0.into())
    }
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectKey")
    }
}

/// Returns random bytes of the operating system.
fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        let reason = format!("the operating system has no random numbers, which encryption needs: {error}");
        StoreError::setup(reason, None)
    })?;
    Ok(bytes)
}

/// Returns the key of this process, which protects personal data in payloads that are not stored yet. It is never
/// stored.
///
/// # Errors
///
/// A text if the operating system has no random numbers.
pub(super) fn process_key() -> Result<&'static SubjectKey, &'static str> {
    static KEY: LazyLock<Option<SubjectKey>> = LazyLock::new(|| SubjectKey::generate().ok());
    KEY.as_ref().ok_or("the operating system has no random numbers, which encryption needs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_context_open_a_text() {
        let key = SubjectKey::new([7; 32]);
        let sealed = key.seal(b"\"Ann\"", b"here").expect("sealed");
        assert_eq!(key.open(&sealed, b"here").as_deref(), Some(&b"\"Ann\""[..]));
        assert_ne!(key.seal(b"\"Ann\"", b"here").expect("sealed"), sealed, "each nonce is random");

        assert_eq!(SubjectKey::new([8; 32]).open(&sealed, b"here"), None, "another key");
        assert_eq!(key.open(&sealed, b"there"), None, "another context");
        for at in [0, 20, 40, sealed.len() - 1] {
            let mut damaged = sealed.clone().into_bytes();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            let damaged = String::from_utf8(damaged).expect("ASCII");
            assert_eq!(key.open(&damaged, b"here"), None, "damaged at {at}");
        }
        for damaged in ["", "A", "*", &sealed[..30]] {
            assert_eq!(key.open(damaged, b"here"), None, "{damaged}");
        }
    }

    /// A test vector of draft-irtf-cfrg-xchacha, appendix A.3.1.
    #[test]
    fn decrypts_a_published_test_vector() {
        let hex = |text: &str| -> Vec<u8> {
            let digits = text.as_bytes().chunks(2);
            digits
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex"))
                .collect()
        };
        let key = hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
        let nonce = "404142434445464748494a4b4c4d4e4f5051525354555657";
        let sealed = "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39\
                      ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
                      21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49";
        let sealed = STANDARD_NO_PAD.encode(hex(&format!("{nonce}{sealed}")));
        let key = SubjectKey::new(key.try_into().expect("32 bytes"));
        let plain = key.open(&sealed, &hex("50515253c0c1c2c3c4c5c6c7")).expect("opened");
        assert!(plain.starts_with(b"Ladies and Gentlemen of the class of '99"));
    }

    #[test]
    fn nothing_shows_a_key() {
        assert_eq!(format!("{:?}", SubjectKey::new([7; 32])), "SubjectKey");
    }
}
