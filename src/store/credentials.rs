//! What a password becomes: a SCRAM-SHA-256 verifier for keeps and a keyed digest for this start.
//!
//! Nothing here knows users, threads or time. Deriving a verifier takes about a millisecond on purpose; every
//! function that does so says so, and none of them is called on a worker.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::limits::{SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN, SCRAM_SALT_BYTES, SCRAM_SALT_BYTES_MAX};

type HmacSha256 = Hmac<Sha256>;

/// Length of a SHA-256 value, bytes.
pub const KEY_BYTES: usize = 32;

/// What SHA-256 takes at once, bytes: the longest key that HMAC takes as it is.
const SHA256_BLOCK_BYTES: usize = 64;

/// Octets that are never shown and do not outlive their use in memory.
#[derive(PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes a copy.
    #[must_use]
    pub fn new(octets: &[u8]) -> Self {
        Self(octets.into())
    }

    /// The octets, for hashing.
    #[must_use]
    pub fn as_octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Overwritten as far as safe code can: the hint keeps the compiler from leaving the stores out.
impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

/// Why a verifier made elsewhere is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// Fewer are too easy to guess (RFC 7677 §4), more would occupy the daemon.
    #[error("{0} iterations; allowed are {SCRAM_ITERATIONS_MIN} to {SCRAM_ITERATIONS_MAX}")]
    Iterations(u32),
    /// Empty or longer than any client makes it.
    #[error("a salt of {0} bytes; allowed are 1 to {SCRAM_SALT_BYTES_MAX}")]
    Salt(usize),
}

/// What is stored of a password, RFC 5802 §3 with SHA-256 (RFC 7677), over raw octets without SASLprep.
///
/// `SaltedPassword = PBKDF2-HMAC-SHA-256(password, salt, iterations)`;
/// `StoredKey = SHA-256(HMAC(SaltedPassword, "Client Key"))`;
/// `ServerKey = HMAC(SaltedPassword, "Server Key")`. HMAC makes trailing NULs of a short password meaningless.
#[derive(Clone)]
pub struct ScramVerifier {
    iterations: u32,
    salt: Box<[u8]>,
    stored_key: [u8; KEY_BYTES],
    server_key: [u8; KEY_BYTES],
}

impl ScramVerifier {
    /// Hashes a password: slow.
    #[must_use]
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let salted = salted_password(password, salt, iterations);
        let client_key = hmac(&salted, &[b"Client Key"]);
        Self {
            iterations,
            salt: salt.into(),
            stored_key: Sha256::digest(client_key).into(),
            server_key: hmac(&salted, &[b"Server Key"]),
        }
    }

    /// A verifier made elsewhere: by a client that sets a password, or read back from storage.
    ///
    /// # Errors
    /// [`VerifierError`] where using it would be too weak or too much work.
    pub fn from_parts(
        iterations: u32,
        salt: &[u8],
        stored_key: [u8; KEY_BYTES],
        server_key: [u8; KEY_BYTES],
    ) -> Result<Self, VerifierError> {
        if !(SCRAM_ITERATIONS_MIN..=SCRAM_ITERATIONS_MAX).contains(&iterations) {
            return Err(VerifierError::Iterations(iterations));
        }
        if salt.is_empty() || salt.len() > SCRAM_SALT_BYTES_MAX {
            return Err(VerifierError::Salt(salt.len()));
        }
        Ok(Self { iterations, salt: salt.into(), stored_key, server_key })
    }

    /// Rounds of PBKDF2.
    #[must_use]
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The salt, 1 to [`SCRAM_SALT_BYTES_MAX`] bytes.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Whether this is the password: slow.
    #[must_use]
    pub fn accepts(&self, password: &[u8]) -> bool {
        let salted = salted_password(password, &self.salt, self.iterations);
        let client_key = hmac(&salted, &[b"Client Key"]);
        Sha256::digest(client_key).ct_eq(&self.stored_key).into()
    }

    /// Whether a client that sent this proof knows the password (RFC 5802 §3): `ClientKey = ClientProof XOR
    /// HMAC(StoredKey, AuthMessage)`, and SHA-256 of it is the StoredKey.
    #[must_use]
    pub fn accepts_proof(&self, auth_message: &[u8], proof: &[u8; KEY_BYTES]) -> bool {
        let mut client_key = hmac(&self.stored_key, &[auth_message]);
        client_key.iter_mut().zip(proof).for_each(|(byte, mask)| *byte ^= mask);
        Sha256::digest(client_key).ct_eq(&self.stored_key).into()
    }

    /// What proves the server to the client: `HMAC(ServerKey, AuthMessage)`.
    #[must_use]
    pub fn server_signature(&self, auth_message: &[u8]) -> [u8; KEY_BYTES] {
        hmac(&self.server_key, &[auth_message])
    }
}

/// Shows nothing that a password could be guessed from.
impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> [u8; KEY_BYTES] {
    pbkdf2::pbkdf2_array::<HmacSha256, KEY_BYTES>(password, salt, iterations)
        .expect("HMAC takes keys of any length (RFC 2104 §2)")
}

fn keyed(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("HMAC takes keys of any length (RFC 2104 §2)")
}

fn hmac(key: &[u8], message: &[&[u8]]) -> [u8; KEY_BYTES] {
    finish(keyed(key), message)
}

fn finish(mut mac: HmacSha256, message: &[&[u8]]) -> [u8; KEY_BYTES] {
    message.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// A name and password under this start's key. Compared in constant time, shown to nobody.
#[derive(Clone, Copy)]
pub(super) struct PasswordDigest([u8; KEY_BYTES]);

impl PartialEq for PasswordDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for PasswordDigest {}

impl fmt::Debug for PasswordDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordDigest(***)")
    }
}

/// The random keys of this start.
pub(super) struct Keys {
    /// Of [`PasswordDigest`]s. Kept keyed: half of the work of a short HMAC is the key.
    digest: HmacSha256,
    /// Of the salts that unknown users seem to have.
    decoy: HmacSha256,
    /// Of the salts of passwords set during this start, with a counter.
    salt: HmacSha256,
    salts_count: AtomicU64,
}

impl Keys {
    /// Draws keys from the kernel.
    ///
    /// # Errors
    /// When the kernel has no randomness to give.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let key = || -> Result<HmacSha256, getrandom::Error> {
            let mut key = [0; KEY_BYTES];
            getrandom::fill(&mut key)?;
            Ok(keyed(&key))
        };
        Ok(Self { digest: key()?, decoy: key()?, salt: key()?, salts_count: AtomicU64::new(0) })
    }

    /// The fast digest. The name goes in too, so that equal passwords have unlike digests.
    ///
    /// Passwords that are one to a verifier have one digest: HMAC fills its key up with zeros and hashes one
    /// that is longer than a block (RFC 2104 §2), so that is what is digested.
    #[must_use]
    pub(super) fn digest(&self, name: &[u8], password: &[u8]) -> PasswordDigest {
        let mut key = [0; SHA256_BLOCK_BYTES];
        let fill = |key: &mut [u8], octets: &[u8]| {
            key.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
        };
        if password.len() > SHA256_BLOCK_BYTES {
            fill(&mut key, &Sha256::digest(password));
        } else {
            fill(&mut key, password);
        }
        PasswordDigest(finish(self.digest.clone(), &[&key, name]))
    }

    /// The salt that a name without a user seems to have: always the same for the same name.
    #[must_use]
    pub(super) fn decoy_salt(&self, name: &[u8]) -> [u8; SCRAM_SALT_BYTES] {
        front(finish(self.decoy.clone(), &[name]))
    }

    /// A salt that was never used and cannot be foreseen. Cannot fail, unlike asking the kernel each time.
    #[must_use]
    pub(super) fn fresh_salt(&self) -> [u8; SCRAM_SALT_BYTES] {
        let number = self.salts_count.fetch_add(1, Ordering::Relaxed);
        front(finish(self.salt.clone(), &[&number.to_be_bytes()]))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(***)")
    }
}

fn front(value: [u8; KEY_BYTES]) -> [u8; SCRAM_SALT_BYTES] {
    const { assert!(SCRAM_SALT_BYTES <= KEY_BYTES) };
    let mut front = [0; SCRAM_SALT_BYTES];
    front.iter_mut().zip(value).for_each(|(to, from)| *to = from);
    front
}

/// What a user's record holds to check log-ins with; shared by successive records while the password stays.
///
/// At least one of digest and verifier is there. Thousands of users given at start have only the digest, which
/// takes a microsecond and is all that a password log-in needs; their verifier is derived from the secret when
/// a SCRAM log-in first asks for it, and then the secret is dropped. A user known by verifier only (stored, or
/// made by a client) gets the digest at the first log-in that the verifier accepted.
#[derive(Debug)]
pub(super) struct Credentials {
    iterations: u32,
    salt: Box<[u8]>,
    digest: OnceLock<PasswordDigest>,
    verifier: OnceLock<ScramVerifier>,
    secret: Mutex<Option<Secret>>,
}

impl Credentials {
    /// Of a clear password: fast, the verifier is derived when it is needed.
    #[must_use]
    pub(super) fn from_password(keys: &Keys, name: &[u8], password: Secret, iterations: u32) -> Self {
        Self {
            iterations,
            salt: keys.fresh_salt().into(),
            digest: OnceLock::from(keys.digest(name, password.as_octets())),
            verifier: OnceLock::new(),
            secret: Mutex::new(Some(password)),
        }
    }

    /// Of a verifier.
    #[must_use]
    pub(super) fn from_verifier(verifier: ScramVerifier) -> Self {
        Self {
            iterations: verifier.iterations,
            salt: verifier.salt.clone(),
            digest: OnceLock::new(),
            verifier: OnceLock::from(verifier),
            secret: Mutex::new(None),
        }
    }

    /// Rounds of PBKDF2, for a SCRAM challenge.
    #[must_use]
    pub(super) fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The salt, for a SCRAM challenge; there before the verifier is.
    #[must_use]
    pub(super) fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Whether the digest is the user's: fast. `None`: only the verifier can tell.
    #[must_use]
    pub(super) fn accepts_digest(&self, digest: &PasswordDigest) -> Option<bool> {
        self.digest.get().map(|known| known == digest)
    }

    /// Whether the password is the user's, by the verifier: slow. Remembers the digest when it is.
    #[must_use]
    pub(super) fn accepts(&self, password: &[u8], digest: PasswordDigest) -> bool {
        let accepted = self.verifier().accepts(password);
        if accepted {
            // Another thread may have been first, with the same digest of the same password.
            let _ = self.digest.set(digest);
        }
        accepted
    }

    /// The verifier; slow where it has to be derived first.
    #[must_use]
    pub(super) fn verifier(&self) -> &ScramVerifier {
        self.verifier.get_or_init(|| {
            let secret = self.secret.lock().unwrap_or_else(PoisonError::into_inner).take();
            let secret = secret.expect("built with a secret or a verifier, and only this takes the secret");
            ScramVerifier::derive(secret.as_octets(), &self.salt, self.iterations)
        })
    }

    /// The verifier where it is there already.
    #[must_use]
    pub(super) fn verifier_ready(&self) -> Option<&ScramVerifier> {
        self.verifier.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SCRAM_ITERATIONS;
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    /// The exchange of RFC 7677 §3: user `user`, password `pencil`.
    mod rfc7677 {
        pub(super) const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
        pub(super) const AUTH_MESSAGE: &[u8] = b"n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        pub(super) const PROOF: &str = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        pub(super) const SERVER_SIGNATURE: &str = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    }

    fn decode(text: &str) -> Vec<u8> {
        BASE64_STANDARD.decode(text).unwrap()
    }

    fn vector() -> ScramVerifier {
        ScramVerifier::derive(b"pencil", &decode(rfc7677::SALT), 4096)
    }

    #[test]
    fn the_exchange_of_rfc_7677_is_accepted_both_ways() {
        let verifier = vector();
        let proof: [u8; KEY_BYTES] = decode(rfc7677::PROOF).try_into().unwrap();
        assert!(verifier.accepts_proof(rfc7677::AUTH_MESSAGE, &proof));
        assert_eq!(
            verifier.server_signature(rfc7677::AUTH_MESSAGE).to_vec(),
            decode(rfc7677::SERVER_SIGNATURE)
        );
        assert!(verifier.accepts(b"pencil"));
    }

    #[test]
    fn anything_else_is_refused() {
        let verifier = vector();
        let proof: [u8; KEY_BYTES] = decode(rfc7677::PROOF).try_into().unwrap();
        for bit in [0, 100, 255] {
            let mut wrong = proof;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(!verifier.accepts_proof(rfc7677::AUTH_MESSAGE, &wrong));
        }
        assert!(!verifier.accepts_proof(b"another message", &proof));
        for password in [&b""[..], b"penci", b"pencil\0x", b"\0pencil", b"Pencil"] {
            assert!(!verifier.accepts(password), "{password:?}");
        }
    }

    #[test]
    fn passwords_that_are_one_to_a_verifier_are_one_to_the_digest() {
        let keys = Keys::random().unwrap();
        let long = [b'x'; 65];
        let hashed: [u8; KEY_BYTES] = Sha256::digest(long).into();
        let check = |one: &[u8], other: &[u8], same: bool| {
            assert_eq!(ScramVerifier::derive(one, b"salt", 1).accepts(other), same, "{one:?} {other:?}");
            assert_eq!(keys.digest(b"user", one) == keys.digest(b"user", other), same, "{one:?} {other:?}");
        };
        check(b"pencil", b"pencil\0", true);
        check(b"pencil", b"pencil\0\0\0", true);
        check(b"pencil", b"pencil\0x", false);
        check(&long, &hashed, true);
        check(&long, &[b'x'; 66], false);
        check(&long, &[b'x'; 64], false);
        check(&[b'x'; 64], b"x", false);
    }

    #[test]
    fn a_verifier_of_others_is_bounded() {
        let parts = |iterations, salt: &[u8]| {
            ScramVerifier::from_parts(iterations, salt, [1; KEY_BYTES], [2; KEY_BYTES]).map(|_| ())
        };
        assert_eq!(parts(SCRAM_ITERATIONS_MIN, b"salt"), Ok(()));
        assert_eq!(parts(SCRAM_ITERATIONS_MAX, &[7; SCRAM_SALT_BYTES_MAX]), Ok(()));
        assert_eq!(parts(1, b"salt"), Err(VerifierError::Iterations(1)));
        assert_eq!(parts(u32::MAX, b"salt"), Err(VerifierError::Iterations(u32::MAX)));
        assert_eq!(parts(4096, b""), Err(VerifierError::Salt(0)));
        assert_eq!(parts(4096, &[0; 65]), Err(VerifierError::Salt(65)));
    }

    #[test]
    fn digests_differ_by_name_password_and_start() {
        let (keys, other) = (Keys::random().unwrap(), Keys::random().unwrap());
        let digest = keys.digest(b"ab", b"c");
        assert_eq!(digest, keys.digest(b"ab", b"c"));
        for unlike in [keys.digest(b"a", b"bc"), keys.digest(b"ab", b"d"), other.digest(b"ab", b"c")] {
            assert_ne!(digest, unlike);
        }
    }

    #[test]
    fn decoy_salts_stay_and_fresh_salts_do_not() {
        let keys = Keys::random().unwrap();
        assert_eq!(keys.decoy_salt(b"nobody"), keys.decoy_salt(b"nobody"));
        assert_ne!(keys.decoy_salt(b"nobody"), keys.decoy_salt(b"nemo"));
        assert_ne!(keys.fresh_salt(), keys.fresh_salt());
        assert_ne!(keys.decoy_salt(&0u64.to_be_bytes()), Keys::random().unwrap().fresh_salt());
    }

    #[test]
    fn a_password_given_at_start_is_digested_and_its_verifier_comes_when_asked_for() {
        let keys = Keys::random().unwrap();
        let credentials =
            Credentials::from_password(&keys, b"alice", Secret::new(b"secret"), SCRAM_ITERATIONS);
        assert!(credentials.verifier_ready().is_none());
        assert_eq!(credentials.accepts_digest(&keys.digest(b"alice", b"secret")), Some(true));
        assert_eq!(credentials.accepts_digest(&keys.digest(b"alice", b"wrong")), Some(false));
        let salt = credentials.salt().to_vec();
        assert!(credentials.verifier().accepts(b"secret"));
        assert_eq!(credentials.verifier().salt(), salt);
        assert!(credentials.secret.lock().unwrap().is_none(), "the secret is dropped");
    }

    #[test]
    fn a_verifier_gets_its_digest_from_the_first_accepted_password() {
        let keys = Keys::random().unwrap();
        let credentials = Credentials::from_verifier(vector());
        let (right, wrong) = (keys.digest(b"user", b"pencil"), keys.digest(b"user", b"pen"));
        assert_eq!(credentials.accepts_digest(&right), None);
        assert!(!credentials.accepts(b"pen", wrong));
        assert_eq!(credentials.accepts_digest(&wrong), None);
        assert!(credentials.accepts(b"pencil", right));
        assert_eq!(credentials.accepts_digest(&right), Some(true));
        assert_eq!(credentials.accepts_digest(&wrong), Some(false));
    }

    #[test]
    fn debug_shows_no_secret() {
        let keys = Keys::random().unwrap();
        let credentials = Credentials::from_password(&keys, b"alice", Secret::new(b"hunter2"), 4096);
        let shown = format!("{credentials:?} {:?} {keys:?} {:?}", Secret::new(b"hunter2"), vector());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains(&format!("{:?}", b"hunter2")), "{shown}");
        assert!(shown.contains("Secret(***)") && shown.contains("PasswordDigest(***)"), "{shown}");
        assert!(!shown.contains("stored_key"), "{shown}");
    }
}
