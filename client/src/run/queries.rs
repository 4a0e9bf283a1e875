//! Commands that look: one answer, or a list in parts.

use pipo_protocol::v2::messages::{
    DnsShow, ListRequest, MetricsRequest, Nothing, SettingGet, SettingListRequest, UserListRequest,
};
use pipo_protocol::v2::{Octets, Reply, Request, Text, Word};

use super::{Failure, Runner};
use crate::grammar::Values;
use crate::link::{CREDIT_BYTES, Link};
use crate::output::{Field, Place, Record, Rows, name_octets, safe, setting_in_list};

impl Runner {
    /// Shows a list as its parts come.
    pub(super) async fn list<T>(
        &mut self,
        link: &Link,
        request: Request,
        rows_of: impl Fn(Reply) -> Option<Vec<T>>,
        shown: impl Fn(&T) -> Vec<Field>,
    ) -> Result<(), Failure> {
        let mut parts = link.parts(request).await?;
        let mut rows = Rows::default();
        while let Some(part) = parts.next().await? {
            let next = rows_of(part).ok_or(Failure::OtherAnswer)?;
            self.printer.rows(&mut rows, next.iter().map(&shown).collect()).await?;
        }
        Ok(self.printer.end(rows).await?)
    }

    pub(super) async fn server_info(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let Reply::ServerInfo(info) = link.request(Request::ServerInfo(Nothing {})).await? else {
            return Err(Failure::OtherAnswer);
        };
        self.show_record(info.fields(), values.text("field")).await
    }

    /// Shows all fields, or one.
    pub(super) async fn show_record(
        &mut self,
        fields: Vec<Field>,
        only: Option<&str>,
    ) -> Result<(), Failure> {
        let Some(only) = only else { return Ok(self.printer.record(&fields).await?) };
        let mut there = fields.iter().filter(|field| field.place != Place::People);
        match there.find(|field| field.name == only) {
            Some(field) => Ok(self.printer.value(field).await?),
            None => {
                let names: Vec<_> = fields.iter().map(|field| field.name).collect();
                let (only, names) = (safe(only), names.join(", "));
                Err(Failure::usage(format!("--field: \"{only}\" is not allowed: one of {names}")))
            }
        }
    }

    pub(super) async fn server_workers(&mut self, link: &Link) -> Result<(), Failure> {
        let request = Request::ServerWorkers(ListRequest { credit: CREDIT_BYTES });
        let rows = |reply| if let Reply::ServerWorkers(part) = reply { Some(part.rows) } else { None };
        self.list(link, request, rows, Record::fields).await
    }

    pub(super) async fn metrics(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let request = Request::Metrics(MetricsRequest {
            credit: CREDIT_BYTES,
            prefix: word(values, "PREFIX"),
            per_worker: values.has("per-worker").then_some(true),
            meanings: values.has("meanings").then_some(true),
        });
        let rows = |reply| if let Reply::Metrics(part) = reply { Some(part.rows) } else { None };
        self.list(link, request, rows, Record::fields).await
    }

    pub(super) async fn statistics(&mut self, link: &Link) -> Result<(), Failure> {
        let Reply::Statistics(own) = link.request(Request::Statistics(Nothing {})).await? else {
            return Err(Failure::OtherAnswer);
        };
        Ok(self.printer.record(&own.fields()).await?)
    }

    pub(super) async fn user_list(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let request = Request::UserList(UserListRequest {
            credit: CREDIT_BYTES,
            user: values.user("NAME"),
            prefix: values.text("prefix").and_then(name_octets).and_then(Octets::new),
            limit: values.number("limit"),
        });
        let rows = |reply| if let Reply::UserList(part) = reply { Some(part.rows) } else { None };
        self.list(link, request, rows, Record::fields).await
    }

    pub(super) async fn setting_list(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let prefix = word(values, "PREFIX");
        let request = Request::SettingList(SettingListRequest { credit: CREDIT_BYTES, prefix });
        let rows = |reply| if let Reply::SettingList(part) = reply { Some(part.rows) } else { None };
        self.list(link, request, rows, setting_in_list).await
    }

    pub(super) async fn setting_get(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let name = setting(values)?;
        let Reply::SettingGet(reply) = link.request(Request::SettingGet(SettingGet { name })).await? else {
            return Err(Failure::OtherAnswer);
        };
        let mut fields = reply.setting.fields();
        fields.push(Field::for_programs("revision", reply.revision));
        Ok(self.printer.record(&fields).await?)
    }

    pub(super) async fn dns_show(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let request = Request::DnsShow(DnsShow {
            credit: CREDIT_BYTES,
            name: values.text("HOST").map(Text::cut),
            limit: values.number("limit"),
        });
        let rows = |reply| if let Reply::DnsShow(part) = reply { Some(part.rows) } else { None };
        self.list(link, request, rows, Record::fields).await
    }
}

/// A word that the grammar has found short enough.
fn word(values: &Values, name: &str) -> Option<Word> {
    values.text(name).and_then(Word::new)
}

/// The setting's name.
pub(super) fn setting(values: &Values) -> Result<Word, Failure> {
    word(values, "SETTING").ok_or_else(|| Failure::usage("SETTING is missing"))
}
