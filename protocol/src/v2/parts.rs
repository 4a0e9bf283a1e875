//! Cuts a long list into records: as many rows in each as fit.

use std::marker::PhantomData;

use super::body::Value;
use super::cbor::Writer;
use super::header::{Header, RecordError};
use super::messages::Part;
use super::record::encode_raw;
use crate::limits::RECORD_BYTES_MAX;

/// Around the rows: header, map head, key and `as_of`, key and array head.
const OVERHEAD_BYTES: usize = crate::limits::HEADER_BYTES + 1 + 1 + 9 + 1 + 3;

/// Longest row that fits in a part.
pub const ROW_BYTES_MAX: usize = RECORD_BYTES_MAX - OVERHEAD_BYTES;

/// Rows that wait until a record is full.
#[derive(Debug)]
pub struct Parts<P> {
    header: Header,
    as_of: u64,
    rows: Vec<u8>,
    rows_count: usize,
    part: PhantomData<P>,
}

impl<P: Part> Parts<P> {
    /// Starts the answer to `request`, on the channel that it named.
    #[must_use]
    pub fn new(request: &Header, as_of: u64) -> Self {
        let header = Header { channel: request.channel, last: false, ..request.reply(super::Status::Ok) };
        Self { header, as_of, rows: Vec::new(), rows_count: 0, part: PhantomData }
    }

    /// Adds a row. Gives the record that became full before it, if one did.
    ///
    /// Errors: [`RecordError::Length`] for a row that fits in no record; it is left out.
    pub fn push(&mut self, row: &P::Row) -> Result<Option<Vec<u8>>, RecordError> {
        let mut out = Writer::new();
        row.write(&mut out);
        let octets = out.into_octets();
        if octets.len() > ROW_BYTES_MAX {
            return Err(RecordError::Length(octets.len() + OVERHEAD_BYTES));
        }
        let full = (self.rows.len() + octets.len() > ROW_BYTES_MAX).then(|| self.record()).transpose()?;
        self.rows.extend(octets);
        self.rows_count += 1;
        Ok(full)
    }

    /// The last record, with the rows that are left, perhaps none.
    pub fn finish(mut self) -> Result<Vec<u8>, RecordError> {
        self.header.last = true;
        self.record()
    }

    fn record(&mut self) -> Result<Vec<u8>, RecordError> {
        let mut body = Writer::new();
        body.map(if self.rows_count == 0 { 1 } else { 2 });
        body.unsigned(0);
        body.unsigned(self.as_of);
        if self.rows_count > 0 {
            body.unsigned(1);
            body.array(self.rows_count);
            body.raw(&self.rows);
        }
        self.rows.clear();
        self.rows_count = 0;
        encode_raw(&self.header, &body.into_octets())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Name;
    use crate::v2::messages::{UserPart, UserRow};
    use crate::v2::{Command, Doors, Message, Record, Role};

    fn row(number: u64, name_bytes: usize) -> UserRow {
        UserRow {
            user: Name::new(vec![b'u'; name_bytes]).unwrap(),
            role: Role::User,
            doors: Doors::Proxy,
            enabled: true,
            sessions_count: number,
            sessions_total_count: u64::MAX,
            bytes_up: u64::MAX,
            bytes_down: u64::MAX,
            last_seen_unix_ms: None,
        }
    }

    #[test]
    fn every_row_arrives_once_in_order_and_only_the_last_part_is_flagged() {
        for (rows_count, name_bytes) in [(0, 1), (1, 255), (40, 255), (3000, 3)] {
            let request = Header { channel: 7, ..Header::request(Command::UserList.code(), 3) };
            let mut parts = Parts::<UserPart>::new(&request, u64::MAX);
            let rows: Vec<_> = (0..rows_count).map(|number| row(number, name_bytes)).collect();
            let mut records: Vec<_> = rows.iter().filter_map(|row| parts.push(row).unwrap()).collect();
            records.push(parts.finish().unwrap());
            let mut found = Vec::new();
            for (place, octets) in records.iter().enumerate() {
                assert!(octets.len() <= RECORD_BYTES_MAX);
                let record = Record::decode(octets).unwrap();
                assert_eq!(record.header.last, place + 1 == records.len());
                assert_eq!((record.header.channel, record.header.request), (7, 3));
                let (as_of, mut part) = UserPart::decode(record.body).unwrap().into_rows();
                assert_eq!(as_of, u64::MAX);
                found.append(&mut part);
            }
            assert_eq!(found, rows);
        }
    }
}
