//! A DoH relay for the daemon under test: every name is 127.0.0.1 for an hour and has no IPv6 address.
//!
//! The HTTP mapping of RFC 8484 in clear, GET and POST, connections kept. A thread a connection: it is asked once
//! a name and worker, since the answers are cached; that is what is measured.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// Any name below `test` will do (RFC 6761).
pub(crate) const NAME: &str = "bench.socks5d.test";

const QUESTION_START: usize = 12;
const TYPE_A: u16 = 1;
const MESSAGE_BYTES_MAX: usize = 65_535;

/// Listens, prints its address and answers until the process is ended.
pub(crate) fn run() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        // A connection that breaks ends its thread and nothing else.
        std::thread::spawn(move || serve(&stream));
    }
    Ok(())
}

fn serve(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(query) = read_query(&mut reader)? {
        let (status, body) = match answer(&query) {
            Some(body) => ("200 OK", body),
            None => ("400 Bad Request", Vec::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/dns-message\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut writer = stream;
        writer.write_all(&[head.as_bytes(), &body].concat())?;
    }
    Ok(())
}

/// One HTTP request; `None` at the end of the connection. A request without a message gives an empty one.
fn read_query(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0).min(MESSAGE_BYTES_MAX);
        }
    }
    if first.starts_with("POST ") {
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        return Ok(Some(body));
    }
    Ok(Some(query_of_target(first.split(' ').nth(1).unwrap_or_default())))
}

/// The message in `…?dns=BASE64URL` (RFC 8484 §4.1); empty where there is none.
fn query_of_target(target: &str) -> Vec<u8> {
    let encoded = target.split_once("dns=").map_or("", |(_, rest)| rest);
    let encoded = encoded.split('&').next().unwrap_or_default();
    decode_base64url(encoded).unwrap_or_default()
}

/// Base64url without padding (RFC 4648 §5). `None`: a character outside the alphabet.
fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let value = ALPHABET.iter().position(|letter| *letter == byte)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// The answer to a query with one question (RFC 1035 §4): an address for A, else no data with an SOA that says how
/// long that holds (RFC 2308 §2.2). `None`: no question in it.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    const POINTER_TO_QUESTION: [u8; 2] = [0xc0, 0x0c];
    const HOUR: [u8; 4] = 3600_u32.to_be_bytes();
    let mut end = QUESTION_START;
    loop {
        let length = usize::from(*query.get(end)?);
        end += 1 + length;
        if length == 0 {
            break;
        }
        if length > 63 {
            return None;
        }
    }
    let question = query.get(QUESTION_START..end + 4)?;
    let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
    let is_address = kind == TYPE_A;
    let mut message = query.get(..2)?.to_vec();
    // A response, recursion desired and available, no error; one question; one record in answer or authority.
    message.extend([0x81, 0x80, 0, 1]);
    message.extend(if is_address { [0, 1, 0, 0, 0, 0] } else { [0, 0, 0, 1, 0, 0] });
    message.extend(question);
    message.extend(POINTER_TO_QUESTION);
    if is_address {
        message.extend([0, 1, 0, 1]);
        message.extend(HOUR);
        message.extend([0, 4, 127, 0, 0, 1]);
    } else {
        message.extend([0, 6, 0, 1]);
        message.extend(HOUR);
        message.extend([0, 2 + 2 + 5 * 4]);
        message.extend(POINTER_TO_QUESTION);
        message.extend(POINTER_TO_QUESTION);
        message.extend([0, 0, 0, 1].iter().chain(HOUR.repeat(4).iter()));
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(kind: u8) -> Vec<u8> {
        [&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x01a\x04test\x00", &[0, kind, 0, 1]].concat()
    }

    #[test]
    fn base64url_is_decoded_without_padding() {
        let check = |text, expected: Option<&[u8]>| assert_eq!(decode_base64url(text).as_deref(), expected);
        check("", Some(b""));
        check("Zg", Some(b"f"));
        check("Zm8", Some(b"fo"));
        check("Zm9vYmFy", Some(b"foobar"));
        check("-_-_", Some(&[0xfb, 0xff, 0xbf]));
        check("Zg==", None);
    }

    #[test]
    fn a_get_and_a_post_carry_the_same_query() {
        let get = b"GET /dns-query?dns=Zm9v HTTP/1.1\r\nHost: x\r\n\r\nGET /".as_slice();
        assert_eq!(read_query(&mut BufReader::new(get)).unwrap().unwrap(), b"foo");
        let post = b"POST /dns-query HTTP/1.1\r\ncontent-length: 3\r\n\r\nfoo".as_slice();
        assert_eq!(read_query(&mut BufReader::new(post)).unwrap().unwrap(), b"foo");
        assert_eq!(read_query(&mut BufReader::new(&b""[..])).unwrap(), None);
    }

    #[test]
    fn a_names_have_an_address_and_no_other_record() {
        let address = answer(&query(1)).unwrap();
        assert_eq!(&address[6..12], &[0, 1, 0, 0, 0, 0]);
        assert!(address.ends_with(&[0, 4, 127, 0, 0, 1]));
        let nothing = answer(&query(28)).unwrap();
        assert_eq!(&nothing[6..12], &[0, 0, 0, 1, 0, 0]);
        let record = &nothing[query(28).len() + 2..];
        assert_eq!((record[1], usize::from(record[9])), (6, record.len() - 10));
    }

    #[test]
    fn what_is_no_question_has_no_answer() {
        for bad in [&[][..], &[0; 11], &[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0x0c, 0, 1, 0, 1]] {
            assert_eq!(answer(bad), None, "{bad:?}");
        }
    }
}
