//! Just enough DNS (RFC 1035) to play a server, right or wrong, without the code under test.

use std::net::IpAddr;

/// Record type A.
pub(crate) const A: u16 = 1;
/// Record type CNAME.
pub(crate) const CNAME: u16 = 5;
/// Record type SOA.
pub(crate) const SOA: u16 = 6;
/// Record type AAAA.
pub(crate) const AAAA: u16 = 28;

/// RCODE of a server that failed.
pub(crate) const SERVER_FAILURE: u8 = 2;
/// RCODE of a name that does not exist.
pub(crate) const NAME_ERROR: u8 = 3;
/// RCODE of a server that will not.
pub(crate) const REFUSED: u8 = 5;

/// A question as it came.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Transaction id.
    pub(crate) id: u16,
    /// The name, lower case, dots between labels.
    pub(crate) name: String,
    /// Type asked for.
    pub(crate) kind: u16,
    /// The question section on the wire.
    octets: Vec<u8>,
}

/// A response under construction. Counts follow the records unless a test sets them.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    id: u16,
    flags: u16,
    question: Vec<u8>,
    answers: Vec<u8>,
    answers_count: u16,
    authority: Vec<u8>,
}

impl Question {
    /// Reads a query; `None` when it is not one question in order.
    pub(crate) fn parse(message: &[u8]) -> Option<Self> {
        let id = u16::from_be_bytes([*message.first()?, *message.get(1)?]);
        let is_query = message.get(2)? & 0x80 == 0;
        let one_question = message.get(4..6)? == [0, 1];
        let mut at = 12;
        let mut labels = Vec::new();
        loop {
            let length = usize::from(*message.get(at)?);
            let label = message.get(at + 1..at + 1 + length)?;
            at += 1 + length;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8(label.to_ascii_lowercase()).ok()?);
        }
        let kind = u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]);
        let octets = message.get(12..at + 4)?.to_vec();
        (is_query && one_question).then_some(Self { id, name: labels.join("."), kind, octets })
    }
}

impl Response {
    /// A response to a question, without records, RCODE 0.
    pub(crate) fn to(question: &Question) -> Self {
        Self {
            id: question.id,
            flags: 0x8180, // Response, recursion desired and available.
            question: question.octets.clone(),
            answers: Vec::new(),
            answers_count: 0,
            authority: Vec::new(),
        }
    }

    /// Sets the RCODE.
    pub(crate) fn code(mut self, code: u8) -> Self {
        self.flags = self.flags & !0x000f | u16::from(code);
        self
    }

    /// Sets TC: the answer did not fit, ask over TCP.
    pub(crate) fn truncated(mut self) -> Self {
        self.flags |= 0x0200;
        self
    }

    /// Answers another name than the one asked.
    pub(crate) fn about(mut self, name: &str) -> Self {
        let tail = self.question.split_off(self.question.len() - 4);
        self.question = [encode_name(name), tail].concat();
        self
    }

    /// Another transaction id.
    pub(crate) fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// Adds an address record of the name that was asked.
    pub(crate) fn address(self, ip: IpAddr, ttl: u32) -> Self {
        match ip {
            IpAddr::V4(ip) => self.record(&[0xc0, 12], A, ttl, &ip.octets()),
            IpAddr::V6(ip) => self.record(&[0xc0, 12], AAAA, ttl, &ip.octets()),
        }
    }

    /// Adds an answer record; `owner` is a name on the wire.
    pub(crate) fn record(mut self, owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Self {
        self.answers.extend(record(owner, kind, ttl, data));
        self.answers_count = self.answers_count.saturating_add(1);
        self
    }

    /// Claims that many answers, whatever there is.
    pub(crate) fn claim_answers(mut self, count: u16) -> Self {
        self.answers_count = count;
        self
    }

    /// Adds a SOA record, from which the life of a negative answer comes (RFC 2308).
    pub(crate) fn start_of_authority(mut self, ttl: u32) -> Self {
        let numbers = [1, 3600, 600, 86_400, ttl].map(u32::to_be_bytes).concat();
        let data = [encode_name("ns.test"), encode_name("admin.test"), numbers].concat();
        self.authority = record(&encode_name("test"), SOA, ttl, &data);
        self
    }

    /// The message.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut message = Vec::new();
        let authority_count = u16::from(!self.authority.is_empty());
        for field in [self.id, self.flags, 1, self.answers_count, authority_count, 0] {
            message.extend(field.to_be_bytes());
        }
        [message.as_slice(), &self.question, &self.answers, &self.authority].concat()
    }
}

/// A name on the wire, without compression.
pub(crate) fn encode_name(name: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        octets.push(u8::try_from(label.len()).expect("a label of at most 63 octets"));
        octets.extend(label.as_bytes());
    }
    octets.push(0);
    octets
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("record data of at most 65535 octets");
    let head = [kind.to_be_bytes(), 1_u16.to_be_bytes()].concat();
    [owner, &head, &ttl.to_be_bytes(), &length.to_be_bytes(), data].concat()
}
