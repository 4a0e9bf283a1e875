//! The record of credentials that passed in clear, and its two forms. Pure.

use std::net::SocketAddr;
use std::time::SystemTime;

use super::record::{Destination, put_json_client, put_json_octets, put_json_session};
use super::text::{Timestamps, put, put_escaped};
use crate::ids::{ListenerId, SessionId, WorkerId};
use crate::settings::LogFormat;

/// Who sent which credentials in clear, and where to.
pub struct CredentialRecord<'a> {
    /// When the line is written.
    pub time: SystemTime,
    /// The session.
    pub session: SessionId,
    /// The worker that holds it.
    pub worker: WorkerId,
    /// The listener it came in by.
    pub listener: ListenerId,
    /// The name of the proxy's user; `anonymous` for those who did not log in.
    pub user: &'a [u8],
    /// Where the client is.
    pub client: SocketAddr,
    /// In which protocol.
    pub protocol: &'a str,
    /// The destination as asked.
    pub destination: Destination<'a>,
    /// The destination's port.
    pub port: u16,
    /// The user name that the origin took.
    pub user_found: &'a [u8],
    /// The password that it took, or stars.
    pub password_found: &'a [u8],
}

impl CredentialRecord<'_> {
    /// Appends the record as one line with its line end.
    pub(super) fn write(&self, format: LogFormat, timestamps: &mut Timestamps, out: &mut Vec<u8>) {
        match format {
            LogFormat::Tab => self.write_tab(timestamps, out),
            LogFormat::Json => self.write_json(timestamps, out),
        }
        out.push(b'\n');
    }

    /// Shape: `TIME USER P PROTOCOL DESTINATION PORT USER-FOUND PASSWORD-FOUND`, separated by tabs; whatever
    /// peers sent is escaped so that it holds no tab and no line end.
    fn write_tab(&self, timestamps: &mut Timestamps, out: &mut Vec<u8>) {
        timestamps.write(self.time, out);
        out.push(b'\t');
        put_escaped(out, self.user);
        put(out, format_args!("\tP\t{}\t", self.protocol));
        self.destination.write_tab(out);
        put(out, format_args!("\t{}\t", self.port));
        put_escaped(out, self.user_found);
        out.push(b'\t');
        put_escaped(out, self.password_found);
    }

    /// Shape: one flat object with the names of an access line, and `kind` to tell it from one.
    fn write_json(&self, timestamps: &mut Timestamps, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        timestamps.write(self.time, out);
        out.extend_from_slice(b"\",\"kind\":\"credential\"");
        put_json_session(out, self.session, self.worker, self.listener);
        put_json_octets(out, "user", self.user);
        put_json_client(out, self.client);
        put(out, format_args!(",\"protocol\":\"{}\"", self.protocol));
        self.destination.write_json(out);
        put(out, format_args!(",\"destination_port\":{}", self.port));
        put_json_octets(out, "user_found", self.user_found);
        put_json_octets(out, "password_found", self.password_found);
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use std::time::{Duration, UNIX_EPOCH};

    fn record() -> CredentialRecord<'static> {
        CredentialRecord {
            time: UNIX_EPOCH + Duration::from_millis(1_795_230_245_678),
            session: SessionId::new(5, WorkerId(1), 9),
            worker: WorkerId(1),
            listener: ListenerId(0),
            user: b"alice",
            client: "[::ffff:192.0.2.7]:50000".parse().unwrap(),
            protocol: "POP3",
            destination: Destination::Name(b"mail.example.org"),
            port: 110,
            user_found: b"al",
            password_found: b"pass\tword\n\xff",
        }
    }

    fn line(format: LogFormat, record: &CredentialRecord<'_>) -> String {
        let mut line = Vec::new();
        record.write(format, &mut Timestamps::default(), &mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_tab_line_has_the_eight_fields_that_others_read() {
        expect![[r#"
            2026-11-21T03:04:05.678Z	alice	P	POP3	mail.example.org	110	al	pass\x09word\x0a\xff
        "#]]
        .assert_eq(&line(LogFormat::Tab, &record()));
    }

    #[test]
    fn a_json_line_says_what_kind_it_is() {
        expect![[r#"
            {"time":"2026-11-21T03:04:05.678Z","kind":"credential","session":"0000500400000009","worker":1,"listener":0,"user":"alice","client_address":"192.0.2.7","client_port":50000,"protocol":"POP3","destination":"mail.example.org","destination_port":110,"user_found":"al","password_found":"pass\u0009word\u000a�","password_found_hex":"7061737309776f72640aff"}
        "#]]
        .assert_eq(&line(LogFormat::Json, &record()));
    }
}
