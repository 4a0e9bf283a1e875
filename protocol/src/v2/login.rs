//! SCRAM-SHA-256 (RFC 5802, RFC 7677): both sides as pure steps, over the raw octets of names and passwords.
//!
//! What is proved is the [`Transcript`]: HELLO and its answer, the start of the login and its challenge, as the
//! whole records that travelled. So the proofs hold only between two sides that saw the same limits and features.
//! Each side hands in nonces from a source of true randomness; nothing here draws any.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::messages::{
    JoinedNonce, LoginChallenge, LoginDone, LoginProof, LoginStart, Nonce, Salt, Verifier,
};
use super::text::Key;
use super::values::Role;
use crate::limits::{ITERATIONS_MAX, ITERATIONS_MIN, NONCE_BYTES_MIN, TRANSCRIPT_BYTES_MAX};
use crate::{Name, Password};

/// The four records before the proof: HELLO, its reply, the start, the challenge. Always in this order, even where
/// a client sent the start before it had read the reply to HELLO.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    records: Vec<u8>,
}

/// Why the server's part of a login is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The challenge does not begin with the client's nonce, or the server added too little.
    #[error("the challenge does not answer this login")]
    Nonce,
    /// Fewer iterations than are safe, or so many that only a false server asks for them.
    #[error("the server asks for {0} iterations, allowed are 4096 to 1000000")]
    Iterations(u32),
    /// The signature is wrong: the peer does not know the user's verifier.
    #[error("the server could not prove that it knows this user")]
    Signature,
}

/// The proof is wrong, for whatever reason; nothing says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("user name or password is wrong")]
pub struct Refused;

impl Transcript {
    /// Adds a record as it was sent or received, header included. No more than four records of the longest kind
    /// are kept, which is what a login has.
    pub fn add(&mut self, record: &[u8]) {
        let room = TRANSCRIPT_BYTES_MAX.saturating_sub(self.records.len());
        self.records.extend_from_slice(record.get(..room.min(record.len())).unwrap_or_default());
    }

    /// AuthMessage: the records, then the joined nonce as the proof repeats it. For a server whose verifiers are
    /// checked elsewhere than by [`ServerStarted::check`].
    #[must_use]
    pub fn auth_message(&self, nonce: &[u8]) -> Vec<u8> {
        [self.records.as_slice(), nonce].concat()
    }
}

// ---- client ---------------------------------------------------------------------------------------------

/// A client that waits for the challenge.
#[derive(Debug)]
pub struct ClientStarted {
    nonce: Nonce,
}

/// A client that waits for the server's signature.
#[derive(Debug)]
pub struct ClientProved {
    expected: Key,
}

impl ClientStarted {
    /// First message. `nonce` is random and never used again.
    #[must_use]
    pub fn new(user: Name, nonce: Nonce) -> (Self, LoginStart) {
        (Self { nonce: nonce.clone() }, LoginStart { user, nonce })
    }

    /// Third message. `transcript` holds the four records so far. Costs `iterations` hashes.
    ///
    /// Errors: [`LoginError::Nonce`], [`LoginError::Iterations`]: nothing about the password has been told.
    pub fn prove(
        self,
        challenge: &LoginChallenge,
        password: &Password,
        transcript: &Transcript,
    ) -> Result<(ClientProved, LoginProof), LoginError> {
        let joined = challenge.nonce.as_bytes();
        match joined.strip_prefix(self.nonce.as_bytes()) {
            Some(added) if added.len() >= NONCE_BYTES_MIN => {}
            _ => return Err(LoginError::Nonce),
        }
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&challenge.iterations) {
            return Err(LoginError::Iterations(challenge.iterations));
        }
        let keys = Keys::derive(password.as_bytes(), challenge.salt.as_bytes(), challenge.iterations);
        let auth_message = transcript.auth_message(joined);
        let signature = hmac(keys.stored.as_bytes(), &auth_message);
        let proof = LoginProof { nonce: challenge.nonce.clone(), proof: xor(&keys.client, &signature) };
        Ok((ClientProved { expected: hmac(keys.server.as_bytes(), &auth_message) }, proof))
    }
}

impl ClientProved {
    /// Checks the fourth message; only then is the peer the server that it claims to be.
    ///
    /// Errors: [`LoginError::Signature`].
    pub fn accept(self, done: &LoginDone) -> Result<Role, LoginError> {
        if done.signature == self.expected { Ok(done.role) } else { Err(LoginError::Signature) }
    }
}

// ---- server ---------------------------------------------------------------------------------------------

/// A server that waits for the proof.
#[derive(Debug)]
pub struct ServerStarted {
    verifier: Verifier,
    nonce: Vec<u8>,
}

impl ServerStarted {
    /// Second message. `verifier` is the user's, or [`Verifier::stand_in`] where there is no such user or it may
    /// not enter; `nonce` is random and never used again.
    #[must_use]
    pub fn new(start: &LoginStart, verifier: Verifier, nonce: &Nonce) -> (Self, LoginChallenge) {
        let nonce = [start.nonce.as_bytes(), nonce.as_bytes()].concat();
        let joined = JoinedNonce::new(nonce.as_slice())
            .unwrap_or_else(|| unreachable!("two nonces of 16 to 64 octets have 32 to 128 together"));
        let challenge =
            LoginChallenge { nonce: joined, salt: verifier.salt.clone(), iterations: verifier.iterations };
        (Self { verifier, nonce }, challenge)
    }

    /// Checks the proof and gives the server's signature for the fourth message. Costs three hashes, right or
    /// wrong. `transcript` holds the four records before the proof.
    pub fn check(self, proof: &LoginProof, transcript: &Transcript) -> Result<Key, Refused> {
        let auth_message = transcript.auth_message(proof.nonce.as_bytes());
        let signature = hmac(self.verifier.stored_key.as_bytes(), &auth_message);
        let client_key = xor(&proof.proof, &signature);
        let proved = hash(client_key.as_bytes()) == self.verifier.stored_key;
        let answered = proof.nonce.as_bytes() == self.nonce;
        if proved & answered {
            Ok(hmac(self.verifier.server_key.as_bytes(), &auth_message))
        } else {
            Err(Refused)
        }
    }
}

// ---- verifiers ------------------------------------------------------------------------------------------

impl Verifier {
    /// Makes the verifier of a password. Costs `iterations` hashes.
    #[must_use]
    pub fn from_password(password: &Password, salt: Salt, iterations: u32) -> Self {
        let keys = Keys::derive(password.as_bytes(), salt.as_bytes(), iterations);
        Self { salt, iterations, stored_key: keys.stored, server_key: keys.server }
    }

    /// Checks a password in clear, as version 1 and RFC 1929 present it. Costs `iterations` hashes, right or wrong.
    #[must_use]
    pub fn matches(&self, password: &Password) -> bool {
        let keys = Keys::derive(password.as_bytes(), self.salt.as_bytes(), self.iterations);
        keys.stored == self.stored_key
    }

    /// A verifier for a user who does not exist: the same salt each time the name is tried, so that nobody can
    /// tell, and keys that no password is known for. `secret` stays with the server.
    #[must_use]
    pub fn stand_in(secret: &[u8], user: &Name, iterations: u32) -> Self {
        let derive = |purpose: &[u8]| hmac(secret, &[purpose, user.as_bytes()].concat());
        let salt = derive(b"salt\0");
        let salt = salt.as_bytes().first_chunk::<16>().and_then(|octets| Salt::new(*octets));
        Self {
            salt: salt.unwrap_or_else(|| unreachable!("a hash has 32 octets, a salt 16 to 64")),
            iterations,
            stored_key: derive(b"stored\0"),
            server_key: derive(b"server\0"),
        }
    }
}

/// What a password becomes (RFC 5802 §3).
struct Keys {
    client: Key,
    stored: Key,
    server: Key,
}

impl Keys {
    fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut salted = [0; 32];
        pbkdf2::pbkdf2::<Hmac<Sha256>>(password, salt, iterations, &mut salted)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length (RFC 2104 §2)"));
        let client = hmac(&salted, b"Client Key");
        Self { stored: hash(client.as_bytes()), server: hmac(&salted, b"Server Key"), client }
    }
}

fn hmac(key: &[u8], message: &[u8]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length (RFC 2104 §2)"));
    mac.update(message);
    Key::new(mac.finalize().into_bytes().into())
}

fn hash(octets: &[u8]) -> Key {
    Key::new(Sha256::digest(octets).into())
}

fn xor(left: &Key, right: &Key) -> Key {
    let mut out = *left.as_bytes();
    out.iter_mut().zip(right.as_bytes()).for_each(|(octet, other)| *octet ^= other);
    Key::new(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text.as_bytes()).unwrap()
    }

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// The exchange of RFC 7677 §3 is textual; its keys, proof and signature hold for any AuthMessage.
    #[test]
    fn keys_proof_and_signature_are_those_of_rfc_7677() {
        // W22ZaJ0SNY7soEsUEjb6gQ== of the exchange.
        let salt = hex("5b6d99689d12358eeca04b141236fa81");
        let keys = Keys::derive(b"pencil", &salt, 4096);
        let auth_message = b"n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let proof = xor(&keys.client, &hmac(keys.stored.as_bytes(), auth_message));
        // dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=
        let expected = hex("747cdb65aa56224e2352137e52d7bdcad6a0f738df30782caa69a2cfb0277554");
        assert_eq!(proof.as_bytes().as_slice(), expected);
        // 6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=
        let expected = hex("eabae24d1062db75a9451ff0b6ea7e98c8546549ff741e672d3251b2397de46e");
        assert_eq!(hmac(keys.server.as_bytes(), auth_message).as_bytes().as_slice(), expected);
    }

    struct Dialogue {
        client: ClientStarted,
        server: ServerStarted,
        challenge: LoginChallenge,
        transcript: Transcript,
    }

    fn dialogue(verifier: Verifier) -> Dialogue {
        let user = Name::new(*b"ada").unwrap();
        let (client, start) = ClientStarted::new(user, Nonce::new([1; 16]).unwrap());
        let (server, challenge) = ServerStarted::new(&start, verifier, &Nonce::new([2; 20]).unwrap());
        let mut transcript = Transcript::default();
        for record in ["hello", "hello reply", "start", "challenge"] {
            transcript.add(record.as_bytes());
        }
        Dialogue { client, server, challenge, transcript }
    }

    fn verifier(secret: &str) -> Verifier {
        Verifier::from_password(&password(secret), Salt::new([9; 16]).unwrap(), 4096)
    }

    #[test]
    fn both_sides_prove_themselves() {
        let d = dialogue(verifier("right"));
        let (client, proof) = d.client.prove(&d.challenge, &password("right"), &d.transcript).unwrap();
        let signature = d.server.check(&proof, &d.transcript).unwrap();
        assert_eq!(client.accept(&LoginDone { as_of: 0, signature, role: Role::Admin }), Ok(Role::Admin));
    }

    #[test]
    fn a_wrong_password_or_transcript_or_nonce_is_refused() {
        let d = dialogue(verifier("right"));
        let (_, proof) = d.client.prove(&d.challenge, &password("wrong"), &d.transcript).unwrap();
        assert_eq!(d.server.check(&proof, &d.transcript), Err(Refused));

        let d = dialogue(verifier("right"));
        let (_, proof) = d.client.prove(&d.challenge, &password("right"), &d.transcript).unwrap();
        let mut other = Transcript::default();
        other.add(b"hello with fewer features");
        assert_eq!(d.server.check(&proof, &other), Err(Refused));

        // A proof that holds for the nonce it names, which is not the one this server gave.
        let mut d = dialogue(verifier("right"));
        let mut nonce = d.challenge.nonce.as_bytes().to_vec();
        nonce[30] ^= 1;
        d.challenge.nonce = JoinedNonce::new(nonce).unwrap();
        let (_, proof) = d.client.prove(&d.challenge, &password("right"), &d.transcript).unwrap();
        assert_eq!(d.server.check(&proof, &d.transcript), Err(Refused));
    }

    #[test]
    fn a_client_refuses_a_false_server() {
        let d = dialogue(verifier("right"));
        let weak = LoginChallenge { iterations: 4095, ..d.challenge.clone() };
        let refused = d.client.prove(&weak, &password("right"), &d.transcript).unwrap_err();
        assert_eq!(refused, LoginError::Iterations(4095));

        let d = dialogue(verifier("right"));
        let heavy = LoginChallenge { iterations: u32::MAX, ..d.challenge.clone() };
        let refused = d.client.prove(&heavy, &password("right"), &d.transcript).unwrap_err();
        assert_eq!(refused, LoginError::Iterations(u32::MAX));

        let d = dialogue(verifier("right"));
        let other = LoginChallenge { nonce: JoinedNonce::new([7; 36]).unwrap(), ..d.challenge.clone() };
        let refused = d.client.prove(&other, &password("right"), &d.transcript).unwrap_err();
        assert_eq!(refused, LoginError::Nonce);

        let d = dialogue(verifier("right"));
        let (client, _) = d.client.prove(&d.challenge, &password("right"), &d.transcript).unwrap();
        let done = LoginDone { as_of: 0, signature: Key::new([0; 32]), role: Role::Admin };
        assert_eq!(client.accept(&done), Err(LoginError::Signature));
    }

    #[test]
    fn a_user_who_does_not_exist_looks_like_one_who_does() {
        let ada = Name::new(*b"ada").unwrap();
        let first = Verifier::stand_in(b"secret", &ada, 4096);
        assert_eq!(first, Verifier::stand_in(b"secret", &ada, 4096));
        assert_ne!(first.salt, Verifier::stand_in(b"other", &ada, 4096).salt);
        assert_ne!(first.salt, Verifier::stand_in(b"secret", &Name::new(*b"bob").unwrap(), 4096).salt);
        let d = dialogue(first);
        let (_, proof) = d.client.prove(&d.challenge, &password("any"), &d.transcript).unwrap();
        assert_eq!(d.server.check(&proof, &d.transcript), Err(Refused));
    }

    #[test]
    fn a_verifier_checks_a_password_in_clear() {
        assert!(verifier("right").matches(&password("right")));
        assert!(!verifier("right").matches(&password("Right")));
    }
}
