//! Every bound of the protocol, each with its reason. Version 2 tells the ones that matter to a peer in HELLO.

/// Names and passwords: one length octet in version 1 and in RFC 1929.
pub const NAME_BYTES_MAX: usize = 255;

// ---- version 1 ------------------------------------------------------------------------------------------

/// Longest login: VER, ULEN, UNAME, PLEN, PASSWD.
pub const V1_LOGIN_BYTES_MAX: usize = 1 + 1 + 255 + 1 + 255;

/// Longest request, "add user": TYPE, CMD, ULEN, UNAME, PLEN, PASSWD, PRIVILEGE.
pub const V1_REQUEST_BYTES_MAX: usize = 2 + 1 + 255 + 1 + 255 + 1;

/// Users in one list: COUNT is one octet.
pub const V1_USERS_COUNT_MAX: usize = 255;

/// Longest reply, a full list of users with the longest names.
pub const V1_REPLY_BYTES_MAX: usize = 2 + 1 + V1_USERS_COUNT_MAX * (1 + 255 + 1);

// ---- version 2: records ---------------------------------------------------------------------------------

/// The fixed header of every record.
pub const HEADER_BYTES: usize = 16;

/// Longest record, header and body: one receive of a client whose library reads 4,096 octets a call.
pub const RECORD_BYTES_MAX: usize = 4096;

/// Longest body.
pub const BODY_BYTES_MAX: usize = RECORD_BYTES_MAX - HEADER_BYTES;

/// Shortest record: a body is at least the empty map, one octet.
pub const RECORD_BYTES_MIN: usize = HEADER_BYTES + 1;

/// Maps and arrays inside each other, the body's own map counted.
pub const NESTING_MAX: usize = 4;

/// Entries of one map, unknown keys counted: the search for duplicate keys stays cheap.
pub const MAP_ENTRIES_MAX: usize = 64;

// ---- version 2: dialogue --------------------------------------------------------------------------------

/// Channels of one association that are open at once, channel 0 not counted.
pub const CHANNELS_COUNT_MAX: usize = 16;

/// Replies waiting to be sent on channel 0; above, the server stops reading the association.
pub const REPLIES_WAITING_COUNT_MAX: usize = 64;

/// Credit of one channel that a client may have granted and the server not yet used.
pub const CREDIT_BYTES_MAX: u32 = 256 * 1024;
const _: () = assert!(CREDIT_BYTES_MAX as usize >= 2 * RECORD_BYTES_MAX);

/// Least credit that opens a channel: one record of any length, so that the first answer never waits.
pub const CREDIT_BYTES_MIN: u32 = 4096;
const _: () = assert!(CREDIT_BYTES_MIN as usize >= RECORD_BYTES_MAX);

/// Octets of subscriptions and bulk that a server has handed to SCTP and that are not acknowledged:
/// a reply on channel 0 waits behind no more than these.
pub const CHANNEL_BYTES_IN_FLIGHT_MAX: usize = 32 * 1024;

/// From the first octet to the end of the login, milliseconds.
pub const LOGIN_MS_MAX: u32 = 10_000;

/// A peer that takes nothing off a waiting association for so long is cut off, milliseconds.
pub const STALLED_MS_MAX: u32 = 30_000;

/// Changes of one candidate; what fits in one record usually comes first.
pub const CHANGES_COUNT_MAX: usize = 64;

/// Problems that a check reports, each with its sentence; more are only counted.
pub const PROBLEMS_COUNT_MAX: usize = 8;

/// Shortest and longest interval of metric samples, milliseconds.
pub const SAMPLE_INTERVAL_MS_MIN: u32 = 100;
/// See [`SAMPLE_INTERVAL_MS_MIN`].
pub const SAMPLE_INTERVAL_MS_MAX: u32 = 3_600_000;

// ---- version 2: login -----------------------------------------------------------------------------------

/// A nonce that one side makes: 128 bits at least.
pub const NONCE_BYTES_MIN: usize = 16;
/// See [`NONCE_BYTES_MIN`].
pub const NONCE_BYTES_MAX: usize = 64;

/// Salts: 128 bits at least.
pub const SALT_BYTES_MIN: usize = 16;
/// See [`SALT_BYTES_MIN`].
pub const SALT_BYTES_MAX: usize = 64;

/// Fewest iterations that a client accepts (RFC 7677 §4): fewer would make its proof cheap to attack.
pub const ITERATIONS_MIN: u32 = 4096;

/// Most iterations that a client accepts: a false server must not keep it computing for minutes.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// HELLO, its answer, the start of the login and its challenge: what both sides sign.
pub const TRANSCRIPT_BYTES_MAX: usize = 4 * RECORD_BYTES_MAX;
