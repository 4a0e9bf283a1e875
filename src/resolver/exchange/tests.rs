//! What the decoder of answers takes and refuses.

use std::str::FromStr;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record as WholeRecord};
use proptest::prelude::*;

use super::*;

/// Spoils a message.
type Change = Box<dyn FnOnce(&mut Message)>;

fn question(name: &str, family: Family) -> Question {
    Question { name: DomainName::parse(name.as_bytes()).unwrap(), family, id: 0 }
}

fn wire(name: &str) -> Name {
    Name::from_str(name).unwrap()
}

fn record(owner: &str, ttl_secs: u32, data: RData) -> WholeRecord {
    WholeRecord::from_rdata(wire(owner), ttl_secs, data)
}

fn a(owner: &str, ttl_secs: u32, last: u8) -> WholeRecord {
    record(owner, ttl_secs, RData::A(A::new(192, 0, 2, last)))
}

fn aaaa(owner: &str, ttl_secs: u32) -> WholeRecord {
    record(owner, ttl_secs, RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)))
}

fn cname(owner: &str, ttl_secs: u32, target: &str) -> WholeRecord {
    record(owner, ttl_secs, RData::CNAME(CNAME(wire(target))))
}

fn soa(owner: &str, ttl_secs: u32, minimum_secs: u32) -> WholeRecord {
    let data = SOA::new(wire("ns.example."), wire("root.example."), 1, 2, 3, 4, minimum_secs);
    record(owner, ttl_secs, RData::SOA(data))
}

/// An answer to [`question`] with these records; `change` may spoil it.
fn message(question: &Question, answers: Vec<WholeRecord>, change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::response(question.id, OpCode::Query);
    message.metadata.recursion_available = true;
    let name = wire(&format!("{}.", question.name));
    message.add_query(Query::query(name, record_type(question.family)));
    message.add_answers(answers);
    change(&mut message);
    message.to_vec().unwrap()
}

fn addresses(texts: &[&str], ttl_secs: u64) -> Result<Reply, CheckError> {
    let addresses = texts.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect();
    Ok(Reply::Addresses { addresses, ttl: Duration::from_secs(ttl_secs) })
}

fn not_found(ttl_secs: u64) -> Result<Reply, CheckError> {
    Ok(Reply::NotFound { ttl: Duration::from_secs(ttl_secs) })
}

#[test]
fn a_question_is_what_another_decoder_reads() {
    for (name, family) in [("Host-1.Example.", Family::V4), ("_x.a", Family::V6), ("x-", Family::V4)] {
        let question = Question { id: 0xBEEF, ..question(name, family) };
        let message = Message::from_vec(&question.encode()).unwrap();
        assert_eq!(message.metadata.id, 0xBEEF);
        assert_eq!(message.metadata.message_type, MessageType::Query);
        assert!(message.metadata.recursion_desired);
        assert_eq!(message.queries.len(), 1);
        assert_eq!(message.queries[0].name().to_ascii(), format!("{}.", question.name));
        assert_eq!(message.queries[0].query_type(), record_type(family));
        assert_eq!(message.queries[0].query_class(), DNSClass::IN);
    }
}

#[test]
fn a_question_has_the_octets_of_rfc_8484() {
    // The example of RFC 8484 §4.1.1.
    let expected = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";
    assert_eq!(question("www.example.com", Family::V4).encode(), expected);
}

#[test]
fn the_longest_name_fits() {
    let name = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    assert_eq!(name.len(), 253);
    let question = question(&name, Family::V4);
    let answer = message(&question, vec![a(&format!("{name}."), 1, 1)], |_| {});
    assert_eq!(check(&question, &answer), addresses(&["192.0.2.1"], 1));
}

#[test]
fn addresses_are_taken_along_the_path_with_its_smallest_ttl() {
    let (v4, v6) = (question("host.example", Family::V4), question("host.example", Family::V6));
    let day = 24 * 3600;
    let cases = [
        (
            &v4,
            vec![a("host.example.", 60, 2), a("HOST.example.", 50, 1)],
            addresses(&["192.0.2.2", "192.0.2.1"], 50),
        ),
        (&v6, vec![aaaa("host.example.", 60), a("host.example.", 1, 1)], addresses(&["2001:db8::1"], 60)),
        (&v4, vec![a("host.example.", 60, 1), a("host.example.", 60, 1)], addresses(&["192.0.2.1"], 60)),
        (
            &v4,
            vec![cname("host.example.", 9, "b.example."), a("b.example.", 60, 1)],
            addresses(&["192.0.2.1"], 9),
        ),
        // In any order.
        (
            &v4,
            vec![
                a("c.test.", 60, 1),
                cname("b.example.", 70, "C.test."),
                cname("host.example.", 80, "b.example."),
            ],
            addresses(&["192.0.2.1"], 60),
        ),
        // What is not on the path does not count, neither as address nor for the TTL.
        (&v4, vec![a("host.example.", 60, 1), a("evil.example.", 1, 9)], addresses(&["192.0.2.1"], 60)),
        (&v4, vec![a("evil.example.", 1, 9)], not_found(5)),
        (&v4, vec![a("host.example.", u32::MAX, 1)], addresses(&["192.0.2.1"], 0)),
        (&v4, vec![a("host.example.", 0x7FFF_FFFF, 1)], addresses(&["192.0.2.1"], day)),
        (&v4, vec![a("host.example.", 0, 1)], addresses(&["192.0.2.1"], 0)),
    ];
    for (question, answers, expected) in cases {
        let text = format!("{answers:?}");
        assert_eq!(check(question, &message(question, answers, |_| {})), expected, "{text}");
    }
}

#[test]
fn no_more_addresses_are_kept_than_the_bound() {
    let question = question("host.example", Family::V4);
    let answers = (0..=255).map(|last| a("host.example.", 60, last)).collect();
    let Ok(Reply::Addresses { addresses, .. }) = check(&question, &message(&question, answers, |_| {}))
    else {
        panic!("it is an answer");
    };
    assert_eq!(addresses.len(), ADDRESSES_PER_ANSWER_MAX);
    assert_eq!(addresses[0], IpAddr::from([192, 0, 2, 0]));
}

#[test]
fn a_message_full_of_records_costs_no_more_than_its_bounds() {
    let question = question("host.example", Family::V4);
    let mut answer = message(&question, vec![], |_| {});
    let record = b"\xC0\x0C\0\x01\0\x01\0\0\0\x01\0\x04";
    let mut count = 0_u16;
    while answer.len() + 16 <= DNS_MESSAGE_BYTES_MAX {
        answer.extend_from_slice(record);
        answer.extend_from_slice(&u32::from(count).to_be_bytes());
        count += 1;
    }
    answer[6..8].copy_from_slice(&count.to_be_bytes());
    assert!(count > 4000);
    let Ok(Reply::Addresses { addresses, .. }) = check(&question, &answer) else { panic!("it is an answer") };
    assert_eq!(addresses.len(), ADDRESSES_PER_ANSWER_MAX);
    // One record more than there is.
    answer[6..8].copy_from_slice(&(count + 1).to_be_bytes());
    assert_eq!(check(&question, &answer), Err(CheckError::TooShort));
    answer.resize(DNS_MESSAGE_BYTES_MAX + 1, 0);
    assert_eq!(check(&question, &answer), Err(CheckError::TooLong(DNS_MESSAGE_BYTES_MAX + 1)));
}

#[test]
fn cnames_are_followed_up_to_the_bound_and_not_in_circles() {
    let question = question("n0.example", Family::V4);
    for (links, works) in [(1, true), (CNAME_CHAIN_MAX, true), (CNAME_CHAIN_MAX + 1, false)] {
        let mut answers: Vec<_> = (0..links)
            .map(|n| cname(&format!("n{n}.example."), 60, &format!("n{}.example.", n + 1)))
            .collect();
        answers.push(a(&format!("n{links}.example."), 60, 1));
        let expected = if works { addresses(&["192.0.2.1"], 60) } else { Err(CheckError::Chain) };
        assert_eq!(check(&question, &message(&question, answers, |_| {})), expected, "{links} links");
    }
    for target in ["n0.example.", "n1.example."] {
        let answers = vec![cname("n0.example.", 60, target), cname("n1.example.", 60, "n0.example.")];
        assert_eq!(check(&question, &message(&question, answers, |_| {})), Err(CheckError::Chain));
    }
}

#[test]
fn a_label_with_a_dot_in_it_is_another_name() {
    let question = question("host.example", Family::V4);
    let mut answer = message(&question, vec![], |_| {});
    answer[7] = 1;
    answer.extend_from_slice(b"\x0chost.example\0\0\x01\0\x01\0\0\0\x01\0\x04\xC0\0\x02\x01");
    assert_eq!(check(&question, &answer), not_found(5));
}

#[test]
fn absence_lives_as_long_as_its_zone_says() {
    let question = question("a.host.example", Family::V4);
    let three_hours = 3 * 3600;
    let cases = [
        (vec![], vec![soa("example.", 600, 30)], 30),
        (vec![], vec![soa("example.", 20, 30)], 20),
        (vec![], vec![soa(".", 20, 30)], 20),
        (vec![], vec![soa("A.HOST.example.", 20, 30)], 20),
        (vec![], vec![soa("example.", 1_000_000, 1_000_000)], three_hours),
        (vec![], vec![soa("other.", 600, 600)], 5),
        (vec![], vec![soa("b.a.host.example.", 600, 600)], 5),
        (vec![], vec![], 5),
        (vec![cname("a.host.example.", 10, "x.test.")], vec![soa("test.", 600, 600)], 10),
        (vec![cname("a.host.example.", 10, "x.test.")], vec![soa("example.", 600, 600)], 5),
    ];
    for rcode in [ResponseCode::NoError, ResponseCode::NXDomain] {
        for (answers, authorities, ttl_secs) in cases.clone() {
            let text = format!("{rcode:?} {answers:?} {authorities:?}");
            let answer = message(&question, answers, |message| {
                message.metadata.response_code = rcode;
                message.add_authorities(authorities);
            });
            assert_eq!(check(&question, &answer), not_found(ttl_secs), "{text}");
        }
    }
}

#[test]
fn a_name_that_does_not_exist_has_no_addresses_whatever_else_the_message_says() {
    let question = question("host.example", Family::V4);
    let answer = message(&question, vec![a("host.example.", 60, 1)], |message| {
        message.metadata.response_code = ResponseCode::NXDomain;
    });
    assert_eq!(check(&question, &answer), not_found(5));
}

#[test]
fn other_rcodes_are_failures_of_the_server() {
    let question = question("host.example", Family::V4);
    for rcode in (1..=15).filter(|&rcode| rcode != 3) {
        let answer = message(&question, vec![a("host.example.", 60, 1)], |message| {
            message.metadata.response_code = ResponseCode::from_low(rcode);
        });
        assert_eq!(check(&question, &answer), Ok(Reply::ServerFailure { rcode: rcode.into() }), "{rcode}");
        let without_question = message(&question, vec![], |message| {
            message.metadata.response_code = ResponseCode::from_low(rcode);
            message.queries.clear();
        });
        assert_eq!(check(&question, &without_question), Ok(Reply::ServerFailure { rcode: rcode.into() }));
    }
}

#[test]
fn what_answers_another_question_is_refused() {
    let question = question("host.example", Family::V4);
    let good = || vec![a("host.example.", 60, 1)];
    let other_type = |message: &mut Message| message.queries[0].query_type = RecordType::AAAA;
    let cases: [(Change, CheckError); 10] = [
        (Box::new(|message| message.metadata.id = 7), CheckError::Id { got: 7, asked: 0 }),
        (Box::new(|message| message.metadata.message_type = MessageType::Query), CheckError::NotAResponse),
        (Box::new(|message| message.metadata.op_code = OpCode::Status), CheckError::Operation),
        (Box::new(|message| message.metadata.truncation = true), CheckError::Truncated),
        (Box::new(|message| message.queries.clear()), CheckError::Question),
        (Box::new(|message| message.queries.push(message.queries[0].clone())), CheckError::Question),
        (Box::new(|message| message.queries[0].name = wire("hosts.example.")), CheckError::Question),
        (Box::new(other_type), CheckError::Question),
        (Box::new(|message| message.queries[0].query_class = DNSClass::CH), CheckError::Question),
        (
            Box::new(|message| {
                message.answers.clear();
                message.metadata.recursion_available = false;
                message.add_authority(record("example.", 60, RData::NS(NS(wire("ns.example.")))));
            }),
            CheckError::Referral,
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(check(&question, &message(&question, good(), change)), Err(expected));
    }
    let any_case = message(&question, good(), |message| message.queries[0].name = wire("HOST.eXample."));
    assert_eq!(check(&question, &any_case), addresses(&["192.0.2.1"], 60));
}

#[test]
fn malformed_names_and_data_are_refused() {
    let question = question("host.example", Family::V4);
    // Records put behind an answer without any; the first begins at offset 30.
    let cases: [(&[u8], CheckError); 9] = [
        // A pointer to itself, forwards, and through the record's own name.
        (b"\xC0\x1E\0\x01\0\x01\0\0\0\x01\0\x04\x01\x02\x03\x04", CheckError::Name),
        (b"\xC0\x40\0\x01\0\x01\0\0\0\x01\0\x04\x01\x02\x03\x04", CheckError::Name),
        (b"\x01a\xC0\x1E\0\x01\0\x01\0\0\0\x01\0\x04\x01\x02\x03\x04", CheckError::Name),
        // Reserved label types.
        (b"\x40\0\0\x01\0\x01\0\0\0\x01\0\x04\x01\x02\x03\x04", CheckError::Name),
        (b"\x80\0\0\x01\0\x01\0\0\0\x01\0\x04\x01\x02\x03\x04", CheckError::Name),
        // Data that is too short, too long, or a name that does not fill it.
        (b"\xC0\x0C\0\x01\0\x01\0\0\0\x01\0\x03\x01\x02\x03", CheckError::RecordData(3)),
        (b"\xC0\x0C\0\x01\0\x01\0\0\0\x01\0\x05\x01\x02\x03\x04\x05", CheckError::RecordData(5)),
        (b"\xC0\x0C\0\x05\0\x01\0\0\0\x01\0\x04\xC0\x0C\0\0", CheckError::RecordData(4)),
        (b"\xC0\x0C\0\x01\0\x01\0\0\0\x01\0\x09\x01\x02\x03\x04", CheckError::TooShort),
    ];
    for (record, expected) in cases {
        let mut answer = message(&question, vec![], |_| {});
        assert_eq!(answer.len(), 30);
        answer[7] = 1;
        answer.extend_from_slice(record);
        assert_eq!(check(&question, &answer), Err(expected), "{record:02x?}");
    }
}

#[test]
fn a_long_row_of_pointers_is_not_followed() {
    for (pointers, works) in [(NAME_POINTERS_MAX - 1, true), (NAME_POINTERS_MAX, false)] {
        let question = question("host.example", Family::V4);
        let mut answer = message(&question, vec![], |_| {});
        answer[7] = 2;
        // A TXT record whose data are pointers, each to the one before, the first to the question's name.
        answer.extend_from_slice(b"\0\0\x10\0\x01\0\0\0\x01");
        answer.extend_from_slice(&u16::try_from(2 * pointers).unwrap().to_be_bytes());
        let mut to = 12_u16;
        for _ in 0..pointers {
            let here = u16::try_from(answer.len()).unwrap();
            answer.extend_from_slice(&(0xC000 | to).to_be_bytes());
            to = here;
        }
        answer.extend_from_slice(&(0xC000 | to).to_be_bytes());
        answer.extend_from_slice(b"\0\x01\0\x01\0\0\0\x01\0\x04\xC0\0\x02\x01");
        let expected = if works { addresses(&["192.0.2.1"], 1) } else { Err(CheckError::Name) };
        assert_eq!(check(&question, &answer), expected, "{pointers}");
    }
}

/// A message with everything in it: CNAMEs, compression, an authority, something unknown.
fn rich(question: &Question) -> Vec<u8> {
    let answers = vec![
        cname("host.example.", 300, "b.example."),
        record("b.example.", 60, RData::TXT(TXT::new(vec!["text".to_owned()]))),
        cname("b.example.", 200, "c.example."),
        a("c.example.", 100, 1),
        a("c.example.", 100, 2),
    ];
    message(question, answers, |message| {
        message.add_authority(soa("example.", 600, 30));
        message.add_additional(aaaa("ns.example.", 60));
    })
}

#[test]
fn every_cut_of_a_message_is_refused() {
    let question = question("host.example", Family::V4);
    let whole = rich(&question);
    assert_eq!(check(&question, &whole), addresses(&["192.0.2.1", "192.0.2.2"], 100));
    for end in 0..whole.len() {
        assert!(check(&question, &whole[..end]).is_err(), "cut at {end}");
    }
}

proptest! {
    #[test]
    fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = check(&question("host.example", Family::V4), &octets);
    }

    /// Whatever is changed in an answer, the result keeps its bounds.
    #[test]
    fn a_mutated_answer_stays_within_its_bounds(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        in_body in any::<bool>(),
    ) {
        let question = question("host.example", Family::V4);
        let mut answer = rich(&question);
        let start = if in_body { 30 } else { 0 };
        for (at, value) in changes {
            let at = start + at.index(answer.len() - start);
            answer[at] = value;
        }
        match check(&question, &answer) {
            Ok(Reply::Addresses { addresses, ttl }) => {
                prop_assert!((1..=ADDRESSES_PER_ANSWER_MAX).contains(&addresses.len()));
                prop_assert!(addresses.iter().all(IpAddr::is_ipv4));
                prop_assert!(ttl <= CACHE_TTL_MAX);
            }
            Ok(Reply::NotFound { ttl }) => prop_assert!(ttl <= CACHE_NEGATIVE_TTL_MAX),
            Ok(Reply::ServerFailure { rcode }) => prop_assert!(rcode != 0 && rcode != 3),
            Err(_) => {}
        }
    }

    /// Encoded and turned into its own answer, a question is recognised; with another id it is not.
    #[test]
    fn a_question_recognises_itself(name in "[a-z0-9_-]{1,63}(\\.[a-z0-9_-]{1,20}){0,5}", id: u16, v6: bool) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let asked = Question { id, ..question(&name, family) };
        let mut answer = asked.encode();
        answer[2] |= 0x80;
        answer[3] |= 0x80;
        prop_assert_eq!(check(&asked, &answer), not_found(5));
        let other = Question { id: id.wrapping_add(1), ..asked };
        prop_assert_eq!(check(&other, &answer), Err(CheckError::Id { got: id, asked: id.wrapping_add(1) }));
    }

    /// Where hickory reads the same message as a whole, both see the same addresses of the name asked.
    #[test]
    fn it_agrees_with_another_decoder(lasts in prop::collection::hash_set(any::<u8>(), 1..30)) {
        let question = question("host.example", Family::V4);
        let answer = message(&question, lasts.iter().map(|&last| a("host.example.", 60, last)).collect(), |_| {});
        let expected: Vec<IpAddr> = Message::from_vec(&answer).unwrap().answers.iter().map(|record| {
            let RData::A(address) = record.data else { panic!("only A records were put in") };
            address.0.into()
        }).collect();
        let expected = Reply::Addresses { addresses: expected.into(), ttl: Duration::from_secs(60) };
        prop_assert_eq!(check(&question, &answer), Ok(expected));
    }
}
