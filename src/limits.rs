//! Every bound of the daemon, each with its reason, and the relations between them.
//!
//! What an operator may change is in [`crate::settings`]; these are the bounds it may not.

use std::time::Duration;

// ---- settings -------------------------------------------------------------------------------------------

/// Addresses of one setting: more listeners than any host needs, and far from what a listener id can name.
pub const ADDRESSES_PER_SETTING_MAX: usize = 64;
const _: () = assert!(2 * ADDRESSES_PER_SETTING_MAX < u16::MAX as usize);

/// I/O buffers that an operator may choose. Below, system calls outweigh bytes; above, a slow reader costs
/// memory without any gain in speed. A whole request fits the smallest.
pub const BUFFER_BYTES_MIN: usize = 512;
/// See [`BUFFER_BYTES_MIN`].
pub const BUFFER_BYTES_MAX: usize = 16 * 1024 * 1024;
const _: () = assert!(BUFFER_BYTES_MIN >= REQUEST_BYTES_MAX);

/// Shortest time limit of a session: below it a peer on the far side of the earth is not a slow one.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// Longest time limit of a session that is not simply `off`: a day.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest handshake: it keeps a descriptor for somebody who has not yet said who it is.
pub const HANDSHAKE_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Worker sleeps: what one octet of seconds of the first admin protocol can say.
pub const POLL_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// See [`POLL_TIMEOUT_MIN`].
pub const POLL_TIMEOUT_MAX: Duration = Duration::from_secs(255);
/// Longest wait for sessions after the first signal.
pub const DRAIN_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// The relay's Host field: a name of 253 octets, brackets, a port.
pub const DOH_HOST_BYTES_MAX: usize = 261;
/// The relay's path and query: with the longest question they stay below what HTTP servers accept as a line.
pub const DOH_TARGET_BYTES_MAX: usize = 1024;

/// The configuration file: thousands of times what every setting together needs.
pub const CONFIG_FILE_BYTES_MAX: usize = 1024 * 1024;
/// The users file: [`USERS_COUNT_MAX`] lines of 128 octets.
pub const USERS_FILE_BYTES_MAX: usize = 128 * USERS_COUNT_MAX;

/// Characters of a refused value that an error line repeats.
pub const QUOTED_VALUE_CHARS_MAX: usize = 64;
/// Names of users that one line of text shows; the rest is counted.
pub const SHOWN_NAMES_MAX: usize = 16;

// ---- workers --------------------------------------------------------------------------------------------

/// Workers: what ten bits of a [`crate::ids::SessionId`] can name.
pub const WORKERS_COUNT_MAX: usize = 1024;

/// Sessions a worker can hold: what its tokens can name. The file-descriptor limit comes first.
pub const SESSIONS_PER_WORKER_MAX: usize = 1 << 22;

/// Accepts a worker does in one turn, so that a burst of connects does not starve the sessions it has.
pub const ACCEPTS_PER_TURN: usize = 8;

/// Events taken from one poll: at 16 bytes an event, 16 KiB.
pub const EVENTS_PER_POLL: usize = 1024;

/// Messages waiting in a worker's inbox. A hand-off that finds it full is served by the one who accepted.
pub const INBOX_MESSAGES_MAX: usize = 4096;

/// Longest time that a worker spends on I/O before it looks at its inbox and timers again.
pub const TURN_BUDGET: Duration = Duration::from_millis(2);

/// How long the sessions that move much keep the others waiting, who may take as long and do not need to: a worker
/// looks for events of the others that often. About one turn of [`TURN_BYTES_MAX`], beside which looking costs
/// little.
pub const BULK_BUDGET: Duration = Duration::from_micros(100);

/// The turn on a processor that workers ask the kernel for: the shortest that it grants.
pub const PROCESSOR_TURN: Duration = Duration::from_micros(100);
/// The turn that carriers ask for: longer than that of ordinary threads (1.4 ms on two processors), who come first
/// then.
pub const CARRIER_PROCESSOR_TURN: Duration = Duration::from_millis(20);

/// Questions of the control loop that a worker has under way; more are refused.
pub const DESK_QUESTIONS_MAX: usize = 64;

/// Sessions, or places of the cache, that a worker looks at in one turn for a list.
pub const DESK_SLOTS_PER_TURN: usize = 256;

/// Rows of a list that a worker gives at once; the next ones only when they are asked for.
pub const DESK_PAGE_ROWS: usize = 256;
const _: () = assert!(DESK_PAGE_ROWS >= DESK_SLOTS_PER_TURN, "what one turn finds fits a page");

/// How long a worker looks for sessions to end in one turn: the other half of the turn is the sessions'.
pub const DESK_BUDGET: Duration = Duration::from_millis(1);
const _: () = assert!(DESK_BUDGET.as_nanos() * 2 <= TURN_BUDGET.as_nanos());

/// Events and steps of traces that wait for the control loop, of each worker; more are dropped and counted.
pub const NEWS_PER_WORKER_MAX: usize = 4096;

/// Sessions of a worker that are traced at once.
pub const TRACES_PER_WORKER_MAX: usize = 64;

/// How often a trace tells of bytes.
pub const TRACE_INTERVAL: Duration = Duration::from_millis(100);

// ---- sessions -------------------------------------------------------------------------------------------

/// Longest request: 4 fixed bytes, length byte, 255-byte name, port (RFC 1928 §4).
pub const REQUEST_BYTES_MAX: usize = 4 + 1 + 255 + 2;

/// Longest username/password request (RFC 1929 §2).
pub const PASSWORD_REQUEST_BYTES_MAX: usize = 1 + 1 + 255 + 1 + 255;

/// Longest method selection (RFC 1928 §3).
pub const METHODS_BYTES_MAX: usize = 2 + 255;

/// What a client may send ahead of the reply, kept for the origin. Past it reading stops until the origin
/// is connected; the whole dialogue of a client that pipelines fits, with room for a TLS client hello.
pub const EARLY_BYTES_MAX: usize = 16 * 1024;
const _: () = assert!(EARLY_BYTES_MAX >= METHODS_BYTES_MAX + PASSWORD_REQUEST_BYTES_MAX + REQUEST_BYTES_MAX);

/// Addresses of one name that are tried, families interleaved (RFC 8305 §4); the rest is ignored.
pub const CANDIDATES_MAX: usize = 8;

/// Wait for AAAA after A came first (RFC 8305 §3).
pub const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// Wait before the next address is tried beside a pending one (RFC 8305 §5).
pub const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// All attempts of one session together.
pub const CONNECT_TOTAL_MAX: Duration = Duration::from_secs(30);

/// Reads from a client in one turn of its handshake: whoever sends without end does not hold up the others.
pub const HANDSHAKE_READS_PER_TURN: usize = 16;

/// How long a session that was answered with a failure may take to read the answer.
pub const CLOSING_LINGER: Duration = Duration::from_secs(2);

/// Sessions refused while this many descriptors are left: they belong to origins of sessions already in,
/// Happy Eyeballs attempts, the resolver, logs and the admin channel.
pub const DESCRIPTORS_RESERVED: usize = 64;

// ---- authentication -------------------------------------------------------------------------------------

/// Failed log-ins are answered at the next tick of this length: their time tells nothing.
pub const REFUSAL_TICK: Duration = Duration::from_millis(250);

/// Failures from one source in [`FAILURES_WINDOW`] before it is refused without hashing.
pub const FAILURES_PER_SOURCE_MAX: u32 = 5;

/// See [`FAILURES_PER_SOURCE_MAX`].
pub const FAILURES_WINDOW: Duration = Duration::from_secs(60);

/// Sources whose failures are remembered at once; the oldest make room.
pub const FAILURE_SOURCES_MAX: usize = 65_536;

/// Passwords waiting to be hashed, of all sources. At 0.8 ms each the last waits 0.8 s.
pub const HASH_QUEUE_MAX: usize = 1024;

/// Passwords of one source waiting to be hashed: one source cannot fill the queue.
pub const HASH_QUEUE_PER_SOURCE_MAX: usize = 64;
const _: () = assert!(HASH_QUEUE_PER_SOURCE_MAX < HASH_QUEUE_MAX);

/// Iterations of PBKDF2 in a stored verifier (RFC 7677 §4 asks for at least 4096).
pub const SCRAM_ITERATIONS: u32 = 4096;

/// Iterations that a verifier made elsewhere may have: fewer are too weak (RFC 7677 §4), and at the most one
/// takes a hashing thread a quarter of a second.
pub const SCRAM_ITERATIONS_MIN: u32 = 4096;
/// See [`SCRAM_ITERATIONS_MIN`].
pub const SCRAM_ITERATIONS_MAX: u32 = 1_000_000;
const _: () = assert!(SCRAM_ITERATIONS >= SCRAM_ITERATIONS_MIN && SCRAM_ITERATIONS <= SCRAM_ITERATIONS_MAX);

/// Salt of the verifiers made here: 128 bits never repeat.
pub const SCRAM_SALT_BYTES: usize = 16;
/// Salt of verifiers made elsewhere.
pub const SCRAM_SALT_BYTES_MAX: usize = 64;

/// Threads that hash passwords: at 0.8 ms each, four check 5,000 a second.
pub const HASH_THREADS_MAX: usize = 4;

/// Changes of users that wait for the store's thread; more are refused.
pub const STORE_COMMANDS_MAX: usize = 1024;

/// Parts of the user directory that are replaced one at a time: 1,000 users of a million.
pub const USER_SHARDS_COUNT: usize = 1024;

/// Users in the directory.
pub const USERS_COUNT_MAX: usize = 1_000_000;

/// User names and passwords: one length byte on every wire (RFC 1929 §2).
pub const USER_NAME_BYTES_MAX: usize = 255;

// ---- resolver -------------------------------------------------------------------------------------------

/// One look-up, all retries and transports together.
pub const LOOKUP_TIME_MAX: Duration = Duration::from_secs(5);

/// Silence of the relay after which the look-up goes elsewhere.
pub const RELAY_SILENCE_MAX: Duration = Duration::from_secs(2);

/// Connections to the relay that a worker has. Each carries one question at a time, so that this many
/// names that are slow to resolve do not yet hold up the others.
pub const RELAY_CONNECTIONS_PER_WORKER: usize = 32;

/// Look-ups a worker has under way or waiting. More fail at once and are counted.
pub const LOOKUPS_PER_WORKER_MAX: usize = 4096;

/// Longest DNS message (RFC 8484 §6, RFC 1035 §4.2.2).
pub const DNS_MESSAGE_BYTES_MAX: usize = 65_535;

/// Longest head of an HTTP answer of the relay.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Header fields in the head of an HTTP answer of the relay.
pub const HTTP_FIELDS_COUNT_MAX: usize = 64;

/// CNAMEs followed inside one answer.
pub const CNAME_CHAIN_MAX: usize = 16;

/// Addresses kept of one answer.
pub const ADDRESSES_PER_ANSWER_MAX: usize = 32;

/// Cache of one worker: names times families.
pub const CACHE_ENTRIES_PER_WORKER_MAX: usize = 16_384;

/// Longest and shortest lives of a cached answer.
pub const CACHE_TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// See [`CACHE_TTL_MAX`]; a TTL of 0 is used once, by those who wait for it.
pub const CACHE_NEGATIVE_TTL_MAX: Duration = Duration::from_secs(3 * 3600);
/// Answers of plain DNS while the relay is down.
pub const CACHE_PLAIN_TTL_MAX: Duration = Duration::from_secs(60);
/// How long past its TTL an answer may still be served when nothing else answers (RFC 8767 §4).
pub const CACHE_STALE_MAX: Duration = Duration::from_secs(24 * 3600);
/// TTL of a stale answer (RFC 8767 §4).
pub const CACHE_STALE_TTL: Duration = Duration::from_secs(30);

/// First and last wait between probes of a relay that is down.
pub const RELAY_PROBE_FIRST: Duration = Duration::from_secs(1);
/// See [`RELAY_PROBE_FIRST`].
pub const RELAY_PROBE_MAX: Duration = Duration::from_secs(30);
/// Failures in a row that mark the relay down.
pub const RELAY_FAILURES_MAX: u32 = 2;

/// Lines of a hosts file that are read.
pub const HOSTS_ENTRIES_MAX: usize = 100_000;

/// Compression pointers followed in one name. Real messages need a few; each may lead only backwards, so
/// this bounds the work of a hostile one, not its end.
pub const NAME_POINTERS_MAX: usize = 16;

/// Records of an answer section that are looked at; what follows is walked over. Addresses in use are far
/// fewer, and the path through them is walked once for each CNAME.
pub const RECORDS_PER_ANSWER_MAX: usize = 1024;
const _: () = assert!(RECORDS_PER_ANSWER_MAX > ADDRESSES_PER_ANSWER_MAX + CNAME_CHAIN_MAX);

/// Life of a negative answer whose zone does not say (RFC 2308 §5 would not have it cached at all; without
/// this a page with many links to one dead name would ask for each).
pub const CACHE_NEGATIVE_TTL_DEFAULT: Duration = Duration::from_secs(5);

/// Life of a failure (RFC 9520 §3.2: at least 1 s), short so that a repaired server is noticed at once.
pub const CACHE_FAILURE_TTL: Duration = Duration::from_secs(1);

/// Everything an HTTP answer may weigh on the wire: a chunked body can be all framing and no content.
pub const HTTP_ANSWER_BYTES_MAX: usize = 4 * DNS_MESSAGE_BYTES_MAX;
const _: () = assert!(HTTP_ANSWER_BYTES_MAX > HTTP_HEAD_BYTES_MAX + DNS_MESSAGE_BYTES_MAX);

/// A chunk's length line with its extensions (RFC 9112 §7.1.1 asks for a limit).
pub const HTTP_CHUNK_LINE_BYTES_MAX: usize = 256;

/// Idle time after which a kept connection to the relay is closed, below the keep-alive of common servers.
pub const RELAY_IDLE_MAX: Duration = Duration::from_secs(30);

/// Silence of a plain DNS server after which the next one is asked.
pub const PLAIN_SILENCE_MAX: Duration = Duration::from_secs(1);
const _: () = assert!(PLAIN_SILENCE_MAX.as_secs() + RELAY_SILENCE_MAX.as_secs() < LOOKUP_TIME_MAX.as_secs());

/// Plain DNS servers that are used (resolv.conf(5) has three).
pub const PLAIN_SERVERS_MAX: usize = 8;

/// Sockets to plain DNS servers that a worker has, each for one question; more questions wait.
pub const PLAIN_SOCKETS_PER_WORKER: usize = 128;

/// Datagrams that do not answer the question, after which it is asked again by TCP: someone is guessing.
pub const PLAIN_WRONG_DATAGRAMS_MAX: u32 = 16;

// ---- logs -----------------------------------------------------------------------------------------------

/// Bytes of access-log lines waiting for the writer, of all workers; more are dropped and counted.
pub const ACCESS_LOG_QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of diagnostics waiting for standard error; more are dropped and counted.
pub const DIAGNOSTICS_QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// How long access lines may wait in a worker's batch: waking the writer costs more than writing a line.
pub const ACCESS_LOG_LINGER: Duration = Duration::from_millis(10);

/// Size at which a worker hands its access lines over before its turn ends.
pub const ACCESS_LOG_BATCH_BYTES: usize = 64 * 1024;
const _: () = assert!(ACCESS_LOG_BATCH_BYTES * 16 <= ACCESS_LOG_QUEUE_BYTES_MAX, "one batch is a small part");

/// What a log queue's buffers keep when they are empty: more comes from a stall and is given back.
pub const LOG_BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// How long a log writer waits for a blocked output before it looks whether it was replaced.
pub const LOG_BLOCKED_WAIT: Duration = Duration::from_millis(100);

/// How long shutdown waits for the log writers.
pub const LOG_FLUSH_MAX: Duration = Duration::from_secs(1);

/// A line that somebody follows, bytes: what fits the event that carries it. Longer ones are cut.
pub const LOG_TAP_LINE_BYTES_MAX: usize = 3072;
/// Lines that wait for the control loop, which fetches them within milliseconds: more than its followers can take.
pub const LOG_TAP_LINES_MAX: usize = 4096;
/// The same in bytes.
pub const LOG_TAP_BYTES_MAX: usize = 1024 * 1024;
const _: () =
    assert!(LOG_TAP_LINE_BYTES_MAX < LOG_TAP_BYTES_MAX && LOG_TAP_LINES_MAX * 64 < LOG_TAP_BYTES_MAX);

// ---- moving bytes ---------------------------------------------------------------------------------------

/// Bytes a direction moves in one turn, whatever the buffer size: few enough that a download does not hold
/// up the other sessions of its worker for long, enough that the turn's own cost does not show.
pub const TURN_BYTES_MIN: usize = 64 * 1024;
/// See [`TURN_BYTES_MIN`].
pub const TURN_BYTES_MAX: usize = 256 * 1024;

/// Bytes that the sessions of a worker hold for slow readers at full buffer size. Past it they read in
/// pieces of [`HELD_BYTES_MIN`].
pub const HELD_BYTES_PER_WORKER_MAX: usize = 64 * 1024 * 1024;
/// See [`HELD_BYTES_PER_WORKER_MAX`]: more than one segment, so that reading in pieces stays useful.
pub const HELD_BYTES_MIN: usize = 2048;

/// Bytes that a carrier moves with one call while workers have sessions that move little: a kernel without preemption
/// lets nobody else have the processor until the call is over, and 64 KiB take some 20 µs. Larger calls cost less.
pub const SMALL_CALL_BYTES: usize = 64 * 1024;
/// How long after a turn of such a session.
pub const SMALL_CALLS_FOR: Duration = Duration::from_millis(1);

/// Bytes of a session after which its user's statistics are brought up to date: they are shared between
/// workers, so not with every byte.
pub const REPORT_BYTES: u64 = 64 * 1024;

/// Bytes from which on a read is worth being spliced (all of the buffer, where that is smaller). Below, the two
/// calls more and the pages held cost as much as copying.
pub const LARGE_READ_BYTES: usize = 32 * 1024;

/// Empty chunks that a worker keeps for reuse.
pub const CHUNKS_POOLED_MAX: usize = 16;

/// Pipes of a carrier, in use and kept. Two descriptors each, counted into the reserve.
pub const PIPES_PER_CARRIER_MAX: usize = 64;
/// Pipes of a worker, which lends whoever needs one for long. Those of two workers and two carriers are some more
/// than the kernel lets an ordinary user have with 256 KiB each (`pipe-user-pages-soft`, pipe(7)).
pub const PIPES_PER_WORKER_MAX: usize = 8;

// ---- dissectors -----------------------------------------------------------------------------------------

/// Bytes of each direction that a dissector may keep; a session has two of them at the most before it is
/// known which one it needs.
pub const DISSECTOR_STATE_BYTES_MAX: usize = 8 * 1024;

/// Bytes of each direction of an HTTP connection that are looked at. They are copied, not spliced: enough for
/// a challenge and its page, a quarter of a thousandth of a download of 256 MiB.
pub const DISSECTED_HTTP_BYTES_MAX: u64 = 64 * 1024;

/// HTTP requests of a connection that are looked at: browsers send their credentials with the second.
pub const DISSECTED_REQUESTS_MAX: usize = 8;

/// Longest line of an HTTP head that is read; servers refuse longer ones (nginx: 8 KiB for all lines).
pub const DISSECTED_LINE_BYTES_MAX: usize = 4 * 1024;

/// Bytes of each direction of a POP3 connection that are looked at: a log-in is some lines of them.
pub const DISSECTED_POP3_BYTES_MAX: usize = DISSECTOR_STATE_BYTES_MAX;

/// Longest user name and password that are noticed, each: as everywhere else.
pub const CREDENTIAL_BYTES_MAX: usize = USER_NAME_BYTES_MAX;
const _: () = assert!(
    DISSECTED_LINE_BYTES_MAX + DISSECTED_REQUESTS_MAX * 2 * CREDENTIAL_BYTES_MAX <= DISSECTOR_STATE_BYTES_MAX,
    "a line and the credentials of every request that waits for its response"
);

// ---- listening ------------------------------------------------------------------------------------------

/// Connections waiting to be accepted; the kernel's somaxconn caps it.
pub const LISTEN_BACKLOG: i32 = 4096;

/// How long a worker that stopped accepting for want of descriptors waits before it tries again, when no
/// session of its own ends before.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Sources whose sessions are counted at once.
pub const SOURCES_SHARDS: usize = 64;

/// Silence before TCP probes: tcp(7) takes whole seconds, up to 32,767 of them.
pub const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
/// See [`KEEPALIVE_MIN`].
pub const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);

/// Time between TCP probes that are not answered; nine of them (tcp_keepalive_probes) break the connection.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Longest name of a congestion control (TCP_CA_NAME_MAX, with its zero).
pub const CONGESTION_NAME_BYTES_MAX: usize = 15;

/// Largest SO_MARK: 32 bits.
pub const MARK_MAX: usize = u32::MAX as usize;

/// Longest path of a file (PATH_MAX, with its zero).
pub const PATH_BYTES_MAX: usize = 4095;

/// Largest hosts file or resolv.conf that is read.
pub const SYSTEM_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Wait before the service manager is told again what it had no room for: as long as a reply to a person may take.
pub const NOTIFY_RETRY: Duration = Duration::from_millis(100);

/// Descriptors of a session: client and origin.
pub const DESCRIPTORS_PER_SESSION: usize = 2;

/// Descriptors of a worker and its carrier besides its sessions': polls and wakers, pipes, connections and sockets
/// of its resolver, and attempts beside each other (RFC 8305).
pub const DESCRIPTORS_PER_WORKER: usize = 2 * 4
    + 2 * (PIPES_PER_WORKER_MAX + PIPES_PER_CARRIER_MAX)
    + RELAY_CONNECTIONS_PER_WORKER
    + PLAIN_SOCKETS_PER_WORKER
    + 64;

// ---- the admin channel ----------------------------------------------------------------------------------

/// Questions to the workers that the admin channel has under way, lists that are read among them; more are
/// refused. What follows from changes always finds room.
pub const ADMIN_INQUIRIES_MAX: usize = 32;
const _: () = assert!(ADMIN_INQUIRIES_MAX * 2 <= DESK_QUESTIONS_MAX);

/// How long a worker may take to answer, or to give the next page.
pub const ADMIN_WORKERS_TIME_MAX: Duration = Duration::from_secs(5);
const _: () = assert!(ADMIN_WORKERS_TIME_MAX.as_millis() > 100 * TURN_BUDGET.as_millis());

/// Sessions of one list that are kept while they are sorted: 3 MiB.
pub const ADMIN_ROWS_SORTED_MAX: usize = 10_000;

/// How long after a list a subscription may go on from it: events are made for so long.
pub const ADMIN_LIST_FOLLOWED_WITHIN: Duration = Duration::from_secs(60);

/// Admin associations at once. Administrators are few; programs that watch may be some dozens.
pub const ADMIN_ASSOCIATIONS_MAX: usize = 256;

/// Admin associations of one source: one host cannot shut out the others.
pub const ADMIN_ASSOCIATIONS_PER_SOURCE_MAX: usize = 192;
const _: () = assert!(ADMIN_ASSOCIATIONS_PER_SOURCE_MAX < ADMIN_ASSOCIATIONS_MAX);

/// Admin associations that have not logged in. When one more comes the oldest of them makes room, so that
/// whoever knows a password gets in however many others only hold places.
pub const ADMIN_LOGINS_WAITING_MAX: usize = 64;
const _: () = assert!(ADMIN_LOGINS_WAITING_MAX < ADMIN_ASSOCIATIONS_PER_SOURCE_MAX);

/// From the opening of an admin association to the end of its log-in.
pub const ADMIN_LOGIN_TIME_MAX: Duration = Duration::from_secs(10);

/// Replies of one admin association that wait to be sent; above, it is not read.
pub const ADMIN_REPLIES_WAITING_MAX: usize = 64;

/// The same in bytes: a list of users takes 64 KiB.
pub const ADMIN_REPLY_BYTES_WAITING_MAX: usize = 256 * 1024;

/// How long an admin association may take no reply before it is aborted.
pub const ADMIN_STALL_MAX: Duration = Duration::from_secs(30);

/// Bytes of an admin association that have arrived and are not understood yet; above, it is not read.
/// One read or message more may follow.
pub const ADMIN_BACKLOG_BYTES: usize = 16 * 1024;
const _: () = assert!(ADMIN_BACKLOG_BYTES > pipo_protocol::limits::V1_REQUEST_BYTES_MAX);

/// Longest message of the admin channel: the longest reply of version 1, a full list of the longest names.
pub const ADMIN_MESSAGE_BYTES_MAX: usize = 68 * 1024;
const _: () = assert!(ADMIN_MESSAGE_BYTES_MAX >= pipo_protocol::limits::V1_REPLY_BYTES_MAX);

/// Requests of one admin association that are answered before the others have their turn.
pub const ADMIN_REQUESTS_PER_TURN: usize = 64;

/// How often an association of the kernel whose channels wait for room is looked at: the kernel tells when there is
/// room for any message, and channels wait for more.
pub const ADMIN_ROOM_RETRY: Duration = Duration::from_millis(20);

/// What the channels of one association send in a turn: some records, so that what is acknowledged at once does not
/// keep the others waiting.
pub const ADMIN_CHANNEL_BYTES_PER_TURN: usize = 8 * 1024;
const _: () = assert!(
    ADMIN_CHANNEL_BYTES_PER_TURN >= pipo_protocol::limits::RECORD_BYTES_MAX
        && ADMIN_CHANNEL_BYTES_PER_TURN <= pipo_protocol::limits::CHANNEL_BYTES_IN_FLIGHT_MAX
);

/// How long channels send in a turn, those of all associations together: about as long as a command takes while
/// nothing else happens.
pub const ADMIN_CHANNELS_BUDGET: Duration = Duration::from_micros(250);

/// Rows of a list that are made before the others have their turn: a few records.
pub const ADMIN_ROWS_PER_PULL: usize = 512;

/// Events that a follower looks at before the others have their turn: few of them may be for it.
pub const ADMIN_EVENTS_PER_PULL: usize = 512;

/// Events of one feed that are kept for those who follow slowly, or ask for what they missed.
pub const ADMIN_EVENTS_MAX: usize = 8192;

/// The same in bytes: lines of the longest kind take this before there are so many of them.
pub const ADMIN_EVENTS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Lists of users that the store has sorted and that are not sent yet: each holds a pointer for every user.
pub const ADMIN_USER_LISTS_MAX: usize = 16;

/// How long the daemon, at its end, waits for admin associations to take their good-bye.
pub const ADMIN_GOODBYE_MAX: Duration = Duration::from_millis(500);

/// Datagrams that one UDP socket takes in before the rest of the control loop has its turn.
pub const ADMIN_DATAGRAMS_PER_TURN: usize = 256;

/// Receive buffer asked of the kernel for a UDP socket: the windows of several peers that send at once.
pub const ADMIN_UDP_BUFFER_BYTES: usize = 1024 * 1024;

/// Associations that wait for the daemon's accept.
pub const ADMIN_BACKLOG_ASSOCIATIONS: i32 = 128;

/// Streams of an association, each way: channel 0 and what version 2 may open beside it.
pub const ADMIN_STREAMS: u16 = 64;

/// Revisions that can be returned to. Each is what was set at run time: a few kilobytes at most.
pub const REVISIONS_KEPT_MAX: usize = 32;

/// How long a commit may wait to be confirmed, seconds: a day.
pub const CONFIRM_SECONDS_MAX: u32 = 86_400;

/// Problems of a candidate that are described; the others are counted.
pub const CANDIDATE_PROBLEMS_MAX: usize = 8;
/// The sentence of one, bytes: longer ones are cut, so that all fit a record.
pub const CANDIDATE_SENTENCE_BYTES_MAX: usize = 440;
const _: () = assert!(CANDIDATE_PROBLEMS_MAX * (CANDIDATE_SENTENCE_BYTES_MAX + 16) < 4096 - 64, "with keys");

/// Changes that wait while the store makes another: it takes milliseconds, so these are many.
pub const CHANGES_WAITING_MAX: usize = 1024;

/// How soon the store is asked again to take users back, after it had no time: nobody else can.
pub const STORE_RETRY: Duration = Duration::from_millis(100);

/// How long lines go on being copied after the last follower has gone: it may come back and ask for them.
pub const LOG_TAP_LINGER: Duration = Duration::from_secs(60);

/// Kernel SCTP's timers. Three transmissions of at most 600 ms each make a path a dead one in under 2 s; the
/// kernel's own values (1 s to 60 s, five of them) take a minute.
pub const SCTP_RTO_INITIAL: Duration = Duration::from_millis(300);
/// See [`SCTP_RTO_INITIAL`]; above the 200 ms that a peer may wait with its acknowledgement.
pub const SCTP_RTO_MIN: Duration = Duration::from_millis(250);
/// See [`SCTP_RTO_INITIAL`].
pub const SCTP_RTO_MAX: Duration = Duration::from_millis(600);
/// See [`SCTP_RTO_INITIAL`].
pub const SCTP_PATH_RETRANSMISSIONS: u16 = 2;
/// Retransmissions over all paths before the association is given up: every path of a peer with several gets
/// its chance.
pub const SCTP_ASSOCIATION_RETRANSMISSIONS: u16 = 6;
/// Between heartbeats to a silent peer.
pub const SCTP_HEARTBEAT: Duration = Duration::from_secs(1);

/// How often ports are chosen anew when the kernel's choice is free on one address and taken on another.
pub const PORT_CHOICES_MAX: usize = 32;

// ---- the metrics endpoint -------------------------------------------------------------------------------

/// Connections to the metrics endpoint. A scrape takes milliseconds; when one more comes, the oldest that has not
/// asked yet makes room, else the oldest.
pub const METRICS_CONNECTIONS_MAX: usize = 16;

/// From the opening of a connection to the end of its request: scrapers ask at once.
pub const METRICS_REQUEST_TIME_MAX: Duration = Duration::from_secs(5);

/// From the request to the last byte of its answer: as long as Prometheus waits unless told otherwise.
pub const METRICS_ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest head of a request: Prometheus sends some hundred bytes.
pub const METRICS_HEAD_BYTES_MAX: usize = 8 * 1024;

/// Header fields in it.
pub const METRICS_FIELDS_COUNT_MAX: usize = 64;

/// What one connection renders or reads before the rest of the control loop has its turn; what it has not sent is
/// little more than that.
pub const METRICS_BYTES_PER_TURN: usize = 32 * 1024;

/// Parts of the user directory that one connection goes through in a turn, looking for users to show: a million
/// users are a thousand in each.
pub const METRICS_PARTS_PER_TURN: usize = 16;

/// Users that can have metrics of their own: four values each, and every scraper keeps them all.
pub const METRICS_USERS_MAX: usize = 1000;
