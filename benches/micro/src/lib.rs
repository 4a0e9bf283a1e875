//! The operations that are measured: one table, used by the times (benches/time.rs, divan) and by the
//! instruction counts (main.rs, callgrind), so that both speak of the same work.
//!
//! An operation is prepared once, with everything it needs, and checks then that it does what its name says.
//! The work itself draws no random numbers, does not read the clock and leaves its surroundings as they were:
//! doing it once more costs the same.

use std::hint::black_box;

pub mod callgrind;
pub mod counts;

// The operations, in the order in which a session meets them.
mod wire;

mod session;

mod store;

mod resolver;

mod relay;

mod timers;

mod logging;

/// Does an operation that many times.
pub type Work = Box<dyn FnMut(u64)>;

/// Something that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Area and operation, without spaces.
    pub name: &'static str,
    /// Makes everything ready.
    pub prepare: fn() -> Work,
}

/// Every operation there is.
pub const OPERATIONS: &[Operation] = &[
    Operation { name: "wire/decode-methods", prepare: wire::decode_methods },
    Operation { name: "wire/decode-password", prepare: wire::decode_password },
    Operation { name: "wire/decode-request-address", prepare: wire::decode_request_address },
    Operation { name: "wire/decode-request-name", prepare: wire::decode_request_name },
    Operation { name: "wire/encode-reply", prepare: wire::encode_reply },
    Operation { name: "session/one-step", prepare: session::one_step },
    Operation { name: "session/handshake-by-address", prepare: session::handshake_by_address },
    Operation { name: "session/handshake-by-name-with-password", prepare: session::handshake_by_name },
    Operation { name: "store/password-check-warm", prepare: store::password_check_warm },
    Operation { name: "resolver/name-parse", prepare: resolver::name_parse },
    Operation { name: "resolver/cache-hit", prepare: resolver::cache_hit },
    Operation { name: "resolver/question-encode", prepare: resolver::question_encode },
    Operation { name: "resolver/answer-check", prepare: resolver::answer_check },
    Operation { name: "resolver/http-answer-parse", prepare: resolver::http_answer_parse },
    Operation { name: "relay/turn-of-64-bytes", prepare: relay::turn_of_64_bytes },
    Operation { name: "relay/turn-of-64-kib", prepare: relay::turn_of_64_kib },
    Operation { name: "timers/insert-and-expire", prepare: timers::insert_and_expire },
    Operation { name: "timers/turn-with-nothing-due", prepare: timers::turn_with_nothing_due },
    Operation { name: "logging/access-line-tab", prepare: logging::access_line_tab },
    Operation { name: "logging/access-line-json", prepare: logging::access_line_json },
];

/// Repeats `once`; the optimiser must produce each result, as it cannot see that nobody reads it.
fn repeated<T>(mut once: impl FnMut() -> T + 'static) -> Work {
    Box::new(move |count| {
        for _ in 0..count {
            black_box(once());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_operation_can_be_done_again_and_again() {
        for operation in OPERATIONS {
            let mut work = (operation.prepare)();
            work(1);
            work(100);
        }
    }

    #[test]
    fn names_are_single_words_and_differ() {
        let names: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
        assert_eq!(names.len(), OPERATIONS.len());
        assert!(names.iter().all(|name| !name.is_empty() && !name.contains(char::is_whitespace)));
    }
}
