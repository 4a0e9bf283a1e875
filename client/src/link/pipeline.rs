//! The client's side of one association after the login, version 1, as a value: replies come in the order of the
//! requests, in a stream of octets.

use std::collections::VecDeque;

use pipo_protocol::v1::{Asked, Reply, Request};

use super::RequestError;
use super::association::{AskId, Violation};

/// Requests that wait for their replies.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    arrived: Vec<u8>,
    /// In order; an ask that nobody waits for any more is `None`, its reply comes all the same.
    waiting: VecDeque<(Option<AskId>, Asked)>,
}

impl Pipeline {
    /// After the login, with what arrived behind it.
    pub(super) fn new(arrived: Vec<u8>) -> Self {
        Self { arrived, waiting: VecDeque::new() }
    }

    /// Sends a request. Errors: version 1 has no octets for it.
    pub(super) fn begin(
        &mut self,
        ask: AskId,
        request: &Request,
        outgoing: &mut VecDeque<Vec<u8>>,
    ) -> Result<(), RequestError> {
        let mut octets = Vec::new();
        match request.asked() {
            Some(asked) if request.encode(&mut octets) => {
                self.waiting.push_back((Some(ask), asked));
                outgoing.push_back(octets);
                Ok(())
            }
            Some(_) | None => Err(RequestError::Version(1)),
        }
    }

    /// Nobody waits for this ask any more.
    pub(super) fn cancel(&mut self, ask: AskId) {
        self.waiting.iter_mut().filter(|(of, _)| *of == Some(ask)).for_each(|(of, _)| *of = None);
    }

    /// Reads what has arrived. Errors: the association is of no more use; replies before it are in `out`.
    pub(super) fn receive(&mut self, octets: &[u8], out: &mut Vec<(AskId, Reply)>) -> Result<(), Violation> {
        self.arrived.extend_from_slice(octets);
        while let Some((ask, asked)) = self.waiting.front() {
            match Reply::decode(*asked, &self.arrived).map_err(|error| error.to_string())? {
                Some((reply, taken)) => {
                    self.arrived.drain(..taken);
                    out.extend(ask.map(|ask| (ask, reply)));
                    self.waiting.pop_front();
                }
                None => return Ok(()),
            }
        }
        if self.arrived.is_empty() { Ok(()) } else { Err("octets that answer no request".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use pipo_protocol::v1::{NumberQuery, Query};

    use super::*;

    fn pipeline(asks: &[(u64, NumberQuery)]) -> Pipeline {
        let mut pipeline = Pipeline::default();
        for (ask, query) in asks {
            let request = Request::Query(Query::Number(*query));
            pipeline.begin(AskId(*ask), &request, &mut VecDeque::new()).unwrap();
        }
        pipeline
    }

    #[test]
    fn replies_find_their_requests_however_they_are_split() {
        let octets = b"\x00\x07\x02\x00\x0a\x1e";
        for cut in 0..octets.len() {
            let mut pipeline = pipeline(&[(1, NumberQuery::RegisteredUsers), (2, NumberQuery::IdleTimeout)]);
            let mut out = Vec::new();
            pipeline.receive(&octets[..cut], &mut out).unwrap();
            pipeline.receive(&octets[cut..], &mut out).unwrap();
            let number = |query, value| Reply::Number { query, value };
            let expected = [
                (AskId(1), number(NumberQuery::RegisteredUsers, 2)),
                (AskId(2), number(NumberQuery::IdleTimeout, 30)),
            ];
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_cancelled_request_still_takes_its_reply() {
        let mut pipeline = pipeline(&[(1, NumberQuery::RegisteredUsers), (2, NumberQuery::IdleTimeout)]);
        pipeline.cancel(AskId(1));
        let mut out = Vec::new();
        pipeline.receive(b"\x00\x07\x02\x00\x0a\x1e", &mut out).unwrap();
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].0, AskId(2));
    }

    #[test]
    fn what_answers_nothing_is_a_violation() {
        let mut out = Vec::new();
        assert!(pipeline(&[]).receive(&[0], &mut out).is_err());
        assert!(pipeline(&[(1, NumberQuery::IdleTimeout)]).receive(b"\x00\x07\x02", &mut out).is_err());
        assert!(out.is_empty());
    }

    #[test]
    fn what_version_1_cannot_say_is_refused() {
        let mut pipeline = Pipeline::default();
        let refused = pipeline.begin(AskId(1), &Request::UnknownType(9), &mut VecDeque::new());
        assert_eq!(refused, Err(RequestError::Version(1)));
    }
}
