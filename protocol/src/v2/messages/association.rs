//! The association itself: HELLO, login, credit, cancel, goodbye.

use crate::Name;
use crate::limits::{NONCE_BYTES_MAX, NONCE_BYTES_MIN, SALT_BYTES_MAX, SALT_BYTES_MIN};
use crate::v2::body::message;
use crate::v2::values::Role;
use crate::v2::{Key, Octets, Sentence, Text, Word};

/// A nonce that one side made.
pub type Nonce = Octets<NONCE_BYTES_MIN, NONCE_BYTES_MAX>;

/// The client's nonce followed by the server's.
pub type JoinedNonce = Octets<{ 2 * NONCE_BYTES_MIN }, { 2 * NONCE_BYTES_MAX }>;

/// A salt.
pub type Salt = Octets<SALT_BYTES_MIN, SALT_BYTES_MAX>;

message! {
    /// HELLO: the first record of an association.
    pub struct HelloRequest "hello-request" {
        /// Name and version of the client, for the server's log.
        1 client: Word,
        /// Features that the client understands.
        2 features: Vec<Word>,
    }
}

message! {
    /// The answer to HELLO.
    pub struct HelloReply "hello-reply" {
        /// Name of the server's software.
        1 server: Word,
        /// Features that the server has.
        2 features: Vec<Word>,
        /// Bounds of this server.
        3 limits: Limits,
        /// Iterations of PBKDF2 that every verifier must have.
        4 iterations: u32,
    }
}

message! {
    /// Bounds of a server.
    pub struct Limits "limits" {
        /// Longest record, header and body.
        1 record_bytes_max: u16,
        /// Channels open at once, channel 0 not counted.
        2 channels_count_max: u16,
        /// Replies waiting on channel 0 before the server stops reading.
        3 replies_waiting_count_max: u16,
        /// Credit of one channel.
        4 credit_bytes_max: u32,
        /// Time for HELLO and login together.
        5 login_ms_max: u32,
        /// Time without progress after which the server aborts.
        6 stalled_ms_max: u32,
        /// Changes of one candidate.
        7 changes_count_max: u16,
    }
}

/// Words that may stand among the features of HELLO, each with what it promises. Others are ignored.
pub const FEATURES: &[(&str, &str)] = &[
    ("candidate", "Candidates: config diff, check, commit, confirm, rollback."),
    ("trace", "Traces of one session."),
    ("credentials", "Credential events and log lines, once a dissector is on."),
];

impl Limits {
    /// The bounds that the specification gives.
    pub const SPECIFIED: Self = Self {
        record_bytes_max: 4096,
        channels_count_max: 16,
        replies_waiting_count_max: 64,
        credit_bytes_max: crate::limits::CREDIT_BYTES_MAX,
        login_ms_max: crate::limits::LOGIN_MS_MAX,
        stalled_ms_max: crate::limits::STALLED_MS_MAX,
        changes_count_max: 64,
    };
}

const _: () = {
    assert!(Limits::SPECIFIED.record_bytes_max as usize == crate::limits::RECORD_BYTES_MAX);
    assert!(Limits::SPECIFIED.channels_count_max as usize == crate::limits::CHANNELS_COUNT_MAX);
    assert!(Limits::SPECIFIED.replies_waiting_count_max as usize == crate::limits::REPLIES_WAITING_COUNT_MAX);
    assert!(Limits::SPECIFIED.changes_count_max as usize == crate::limits::CHANGES_COUNT_MAX);
};

message! {
    /// First message of SCRAM.
    pub struct LoginStart "login-start" {
        /// Who logs in.
        1 user: Name,
        /// Random octets of the client.
        2 nonce: Nonce,
    }
}

message! {
    /// Second message of SCRAM. For users who do not exist it looks the same.
    pub struct LoginChallenge "login-challenge" {
        /// The client's nonce followed by random octets of the server.
        1 nonce: JoinedNonce,
        /// The user's salt.
        2 salt: Salt,
        /// Iterations of PBKDF2.
        3 iterations: u32,
    }
}

message! {
    /// Third message of SCRAM.
    pub struct LoginProof "login-proof" {
        /// The nonce of the challenge.
        1 nonce: JoinedNonce,
        /// ClientProof.
        2 proof: Key,
    }
}

message! {
    /// Fourth message of SCRAM: the user is logged in if the client accepts the signature.
    pub struct LoginDone "login-done" {
        /// Last event so far.
        0 as_of: u64,
        /// ServerSignature: proves that the server knows the verifier.
        1 signature: Key,
        /// What the user may do.
        2 role: Role,
    }
}

message! {
    /// The client ends the association; the server answers and closes.
    pub struct Goodbye "goodbye" {
        /// Why, for the server's log.
        1 reason: Option<Sentence>,
    }
}

message! {
    /// Returns credit to a channel. Never answered; ignored when the channel is not open.
    pub struct Credit "credit" {
        /// Which channel.
        1 channel: u32,
        /// Octets of whole records, headers included.
        2 bytes: u32,
    }
}

message! {
    /// Cancels a request that is not answered in full yet.
    pub struct Cancel "cancel" {
        /// REQUEST of that request.
        1 request: u32,
    }
}

message! {
    /// The answer to cancel.
    pub struct Cancelled "cancelled" {
        /// Whether it was still under way; its own last record tells how it ended.
        1 found: bool,
    }
}

message! {
    /// Ends a subscription.
    pub struct Unsubscribe "unsubscribe" {
        /// Its channel.
        1 channel: u32,
    }
}

message! {
    /// Something on channel 0 that nobody asked for.
    pub struct Notice "notice" {
        /// What.
        1 kind: NoticeKind,
        /// For people.
        2 sentence: Option<Text<512>>,
        /// Time until it happens.
        3 left_ms: Option<u32>,
        /// Revision of the configuration, where that changed.
        4 revision: Option<u64>,
    }
}

crate::v2::values::wire_enum! {
    /// What a notice is about.
    pub enum NoticeKind "notice-kind" {
        /// The server closes this association; nothing follows.
        Goodbye = 0 "goodbye",
        /// The server is going down and finishes what runs.
        ShuttingDown = 1 "shutting-down",
        /// No new sessions are accepted.
        Draining = 2 "draining",
        /// New sessions are accepted again.
        Undrained = 3 "undrained",
        /// A commit waits to be confirmed.
        ConfirmPending = 4 "confirm-pending",
        /// A commit was confirmed.
        Confirmed = 5 "confirmed",
        /// A commit was not confirmed in time and has been taken back.
        Reverted = 6 "reverted",
        /// The role of this user has changed; what it may do now follows the new one.
        RoleChanged = 7 "role-changed",
    }
}
