//! Commands that change something, one at a time.

use pipo_protocol::limits::{ITERATIONS_MAX, ITERATIONS_MIN};
use pipo_protocol::v2::messages::{
    Changed, DnsFlush, DrainReply, Nothing, Salt, SettingReset, SettingSet, SettingValue, ShutdownRequest,
    UserAdd, UserPassword, UserRemove, UserRole, Verifier,
};
use pipo_protocol::v2::{Doors, Reply, Request, Role, Text};
use pipo_protocol::{Name, Password};

use super::queries::setting;
use super::sessions::sessions;
use super::{Failure, Runner};
use crate::grammar::Values;
use crate::limits::SALT_BYTES;
use crate::link::Link;
use crate::output::{Record, name_text};

impl Runner {
    pub(super) async fn user_add(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let user = user(values)?;
        let password = self.new_password_of(&user, values).await?;
        let role = role(values.text("role")).unwrap_or(Role::User);
        let add =
            UserAdd { user: user.clone(), verifier: verifier(link, &password)?, role, doors: doors(values) };
        let reply = link.request(Request::UserAdd(add)).await?;
        let Reply::UserAdd(changed) = reply else { return Err(Failure::OtherAnswer) };
        self.changed(&format!("User {} added", shown(&user)), &changed).await
    }

    pub(super) async fn user_remove(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let user = user(values)?;
        let reply = link.request(Request::UserRemove(UserRemove { user: user.clone() })).await?;
        let Reply::UserRemove(changed) = reply else { return Err(Failure::OtherAnswer) };
        self.changed(&format!("User {} removed", shown(&user)), &changed).await
    }

    pub(super) async fn user_password(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let user = user(values)?;
        let password = self.new_password_of(&user, values).await?;
        let change = UserPassword { user: user.clone(), verifier: verifier(link, &password)? };
        let reply = link.request(Request::UserPassword(change)).await?;
        let Reply::UserPassword(changed) = reply else { return Err(Failure::OtherAnswer) };
        self.changed(&format!("Password of {} changed", shown(&user)), &changed).await
    }

    pub(super) async fn user_role(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let user = user(values)?;
        let role = role(values.text("ROLE")).ok_or_else(|| Failure::usage("ROLE is missing"))?;
        let change = UserRole { user: user.clone(), role, doors: doors(values) };
        let reply = link.request(Request::UserRole(change)).await?;
        let Reply::UserRole(changed) = reply else { return Err(Failure::OtherAnswer) };
        self.changed(&format!("User {} has the role {role}", shown(&user)), &changed).await
    }

    /// The password of somebody who is added or gets a new one; never from the command line.
    pub(super) async fn new_password_of(
        &mut self,
        user: &Name,
        values: &Values,
    ) -> Result<Password, Failure> {
        if values.has("password-stdin") {
            return self.input.password_line().await;
        }
        self.input.new_password(&shown(user)).await
    }

    pub(super) async fn setting_set(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let name = setting(values)?;
        let value = match (name.as_str(), values.text("VALUE")) {
            // The switches of the original menu, which knew only on and off.
            ("dissector", Some("on")) => setting_value(Some("full"))?,
            ("idle-timeout", Some("on")) => return self.setting_reset(link, values).await,
            (_, value) => setting_value(value)?,
        };
        let sentence = format!("{} is {}", name.as_str(), crate::output::safe(value.as_str()));
        let set = SettingSet { name, value, base: values.number("base") };
        let reply = link.request(Request::SettingSet(set)).await?;
        let Reply::SettingSet(changed) = reply else { return Err(Failure::OtherAnswer) };
        self.changed(&sentence, &changed).await
    }

    pub(super) async fn setting_reset(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let name = setting(values)?;
        let sentence = format!("{} is what it was at start", name.as_str());
        let reset = SettingReset { name, base: values.number("base") };
        let reply = link.request(Request::SettingReset(reset)).await?;
        let Reply::SettingReset(changed) = reply else { return Err(Failure::OtherAnswer) };
        self.changed(&sentence, &changed).await
    }

    /// Says what was changed, and what it cost.
    pub(super) async fn changed(&mut self, sentence: &str, changed: &Changed) -> Result<(), Failure> {
        let ended = match changed.sessions_closed_count {
            0 => String::new(),
            count => format!("; {} ended", sessions(count.into())),
        };
        let sentence = format!("{sentence} (revision {}){ended}.", changed.revision);
        Ok(self.printer.done(&sentence, &changed.fields()).await?)
    }

    pub(super) async fn dns_flush(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let flush = DnsFlush { name: values.text("HOST").map(Text::cut) };
        let Reply::DnsFlush(flushed) = link.request(Request::DnsFlush(flush)).await? else {
            return Err(Failure::OtherAnswer);
        };
        let sentence = match flushed.entries_count {
            1 => "1 answer forgotten.".to_owned(),
            count => format!("{count} answers forgotten."),
        };
        Ok(self.printer.done(&sentence, &flushed.fields()).await?)
    }

    pub(super) async fn log_rotate(&mut self, link: &Link) -> Result<(), Failure> {
        let Reply::LogRotate(done) = link.request(Request::LogRotate(Nothing {})).await? else {
            return Err(Failure::OtherAnswer);
        };
        let fields = [crate::output::Field::for_programs("as_of", done.as_of)];
        Ok(self.printer.done("The log files were opened anew.", &fields).await?)
    }

    pub(super) async fn server_drain(&mut self, link: &Link) -> Result<(), Failure> {
        let Reply::ServerDrain(reply) = link.request(Request::ServerDrain(Nothing {})).await? else {
            return Err(Failure::OtherAnswer);
        };
        self.drained("No new sessions are accepted", &reply).await
    }

    pub(super) async fn server_undrain(&mut self, link: &Link) -> Result<(), Failure> {
        let Reply::ServerUndrain(reply) = link.request(Request::ServerUndrain(Nothing {})).await? else {
            return Err(Failure::OtherAnswer);
        };
        self.drained("New sessions are accepted", &reply).await
    }

    pub(super) async fn server_shutdown(&mut self, link: &Link, values: &Values) -> Result<(), Failure> {
        let drain_ms = values.span_ms("drain").map(|ms| u32::try_from(ms).unwrap_or(u32::MAX));
        let request = Request::ServerShutdown(ShutdownRequest { drain_ms });
        let Reply::ServerShutdown(reply) = link.request(request).await? else {
            return Err(Failure::OtherAnswer);
        };
        self.drained("The server is going down", &reply).await
    }

    async fn drained(&mut self, sentence: &str, reply: &DrainReply) -> Result<(), Failure> {
        let sentence = format!("{sentence}; {} open.", sessions(reply.sessions_count));
        Ok(self.printer.done(&sentence, &reply.fields()).await?)
    }
}

/// The user's name.
pub(super) fn user(values: &Values) -> Result<Name, Failure> {
    values.user("NAME").ok_or_else(|| Failure::usage("NAME is missing"))
}

pub(super) fn role(text: Option<&str>) -> Option<Role> {
    text.and_then(Role::from_name)
}

pub(super) fn doors(values: &Values) -> Option<Doors> {
    values.text("doors").and_then(Doors::from_name)
}

pub(super) fn setting_value(text: Option<&str>) -> Result<SettingValue, Failure> {
    text.and_then(SettingValue::new).ok_or_else(|| Failure::usage("VALUE is missing"))
}

fn shown(user: &Name) -> String {
    name_text(user.as_bytes())
}

/// What the server stores instead of the password, with a fresh salt and as many iterations as it wants.
pub(super) fn verifier(link: &Link, password: &Password) -> Result<Verifier, Failure> {
    let iterations = link.server().iterations;
    if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
        return Err(Failure::OtherAnswer);
    }
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| Failure::Read {
        what: "random octets".to_owned(),
        error: std::io::Error::other(error.to_string()),
    })?;
    let salt = Salt::new(salt).ok_or(Failure::OtherAnswer)?;
    Ok(Verifier::from_password(password, salt, iterations))
}
