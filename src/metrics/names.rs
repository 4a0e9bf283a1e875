//! Every metric: its name, unit and meaning, in one list. Everything that shows metrics reads this list.

/// What a metric's value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things or events.
    Count,
    /// Bytes.
    Bytes,
}

macro_rules! metrics {
    ($(#[$kind_doc:meta])* $kind:ident { $($variant:ident, $name:literal, $unit:ident, $meaning:literal;)+ }) => {
        $(#[$kind_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum $kind {
            $(#[doc = $meaning] $variant,)+
        }

        impl $kind {
            /// Every metric of this kind, in the order of the list.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name: lower case, words by underscores, cause last.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The unit.
            #[must_use]
            pub fn unit(self) -> Unit {
                match self { $(Self::$variant => Unit::$unit,)+ }
            }

            /// One sentence on what it means.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}

metrics! {
    /// What only grows.
    Counter {
        SessionsAccepted, "sessions_accepted", Count, "Connections accepted from clients.";
        SessionsRelayed, "sessions_relayed", Count, "Sessions whose origin was connected.";
        SessionsClosed, "sessions_closed", Count, "Sessions that ended, whatever the cause.";
        SessionsIpv4, "sessions_ipv4", Count, "Sessions connected to an IPv4 origin.";
        SessionsIpv6, "sessions_ipv6", Count, "Sessions connected to an IPv6 origin.";
        SessionsByName, "sessions_by_name", Count, "Sessions that asked for a name, not an address.";
        BytesUp, "bytes_up", Bytes, "Payload from clients to origins.";
        BytesDown, "bytes_down", Bytes, "Payload from origins to clients.";
        ReplySucceeded, "reply_succeeded", Count, "Replies 00.";
        ReplyGeneralFailure, "reply_general_failure", Count, "Replies 01.";
        ReplyNotAllowed, "reply_not_allowed", Count, "Replies 02.";
        ReplyNetworkUnreachable, "reply_network_unreachable", Count, "Replies 03.";
        ReplyHostUnreachable, "reply_host_unreachable", Count, "Replies 04.";
        ReplyConnectionRefused, "reply_connection_refused", Count, "Replies 05.";
        ReplyTtlExpired, "reply_ttl_expired", Count, "Replies 06: attempts that timed out.";
        ReplyCommandNotSupported, "reply_command_not_supported", Count, "Replies 07.";
        ReplyAddressTypeNotSupported, "reply_address_type_not_supported", Count, "Replies 08.";
        ProtocolVersion, "protocol_version", Count, "Clients whose first byte was not SOCKS5.";
        ProtocolMalformed, "protocol_malformed", Count, "Clients that broke the dialogue after its first byte.";
        ProtocolNoMethod, "protocol_no_method", Count, "Clients that offered no method we accept (FF).";
        ProtocolBadName, "protocol_bad_name", Count, "Requests with a name that is empty, zoned or not ASCII.";
        ClientGone, "client_gone", Count, "Clients that closed before their request was answered.";
        HandshakeTimeout, "handshake_timeout", Count, "Clients too slow with their handshake.";
        IdleTimeout, "idle_timeout", Count, "Sessions closed for moving no byte.";
        HalfClosedTimeout, "half_closed_timeout", Count, "Half-closed sessions closed for moving no byte.";
        AuthAccepted, "auth_accepted", Count, "Log-ins that were accepted.";
        AuthRefused, "auth_refused", Count, "Log-ins refused for name, password or door.";
        AuthThrottled, "auth_throttled", Count, "Log-ins refused unhashed: too many failures from the source.";
        AuthQueueFull, "auth_queue_full", Count, "Log-ins refused because too many waited to be hashed.";
        ConnectRefused, "connect_refused", Count, "Connect attempts the origin refused.";
        ConnectTimeout, "connect_timeout", Count, "Connect attempts that timed out.";
        ConnectUnreachable, "connect_unreachable", Count, "Connect attempts without a route.";
        ConnectFailed, "connect_failed", Count, "Connect attempts that failed otherwise.";
        ConnectDenied, "connect_denied", Count, "Destinations that policy refused.";
        ConnectLoop, "connect_loop", Count, "Destinations that were the proxy itself.";
        RelayReset, "relay_reset", Count, "Sessions that ended with a reset of either side.";
        RelayFailed, "relay_failed", Count, "Sessions that ended with another I/O error.";
        AcceptPaused, "accept_paused", Count, "Times that accepting paused for want of descriptors or by a limit.";
        AcceptFailed, "accept_failed", Count, "Accepts that failed.";
        SourceLimit, "source_limit", Count, "Connections closed because their source had too many.";
        HandOff, "hand_off", Count, "Connections handed to a less loaded worker.";
        InboxFull, "inbox_full", Count, "Messages to a worker that found its inbox full.";
        DnsLookups, "dns_lookups", Count, "Names that were looked up, cached or not.";
        DnsQueries, "dns_queries", Count, "Questions sent to the relay.";
        DnsPlainQueries, "dns_plain_queries", Count, "Questions sent to plain DNS.";
        DnsCacheHits, "dns_cache_hits", Count, "Answers found in the cache.";
        DnsCacheMisses, "dns_cache_misses", Count, "Answers not found in the cache.";
        DnsCacheEvictions, "dns_cache_evictions", Count, "Cached answers that made room for others.";
        DnsStale, "dns_stale", Count, "Answers served past their TTL because nothing else answered.";
        DnsHosts, "dns_hosts", Count, "Answers from /etc/hosts and localhost.";
        DnsJoined, "dns_joined", Count, "Questions that joined one already under way.";
        DnsNotFound, "dns_not_found", Count, "Names without any address.";
        DnsServerFailure, "dns_server_failure", Count, "Questions answered with an RCODE other than 0 and 3.";
        DnsTimeout, "dns_timeout", Count, "Questions nobody answered in time.";
        DnsRelayRefused, "dns_relay_refused", Count, "Connects to the relay that failed.";
        DnsRelayStatus4xx, "dns_relay_status_4xx", Count, "Questions the relay refused with a 4xx.";
        DnsRelayStatus5xx, "dns_relay_status_5xx", Count, "Questions the relay failed with a 5xx or another status.";
        DnsRelayInvalidHttp, "dns_relay_invalid_http", Count, "Answers of the relay that were not valid HTTP or not DNS by type.";
        DnsInvalidAnswer, "dns_invalid_answer", Count, "DNS messages that were malformed or answered another question.";
        DnsQueueFull, "dns_queue_full", Count, "Look-ups refused because too many were under way.";
        DnsRelaySwitch, "dns_relay_switch", Count, "Times that the relay was marked down or up.";
        LogLinesDropped, "log_lines_dropped", Count, "Access-log lines lost because the writer could not keep up.";
        AdminAssociations, "admin_associations", Count, "Associations of the admin channel that came about.";
        AdminAcceptFailed, "admin_accept_failed", Count, "Admin associations that could not be taken: accept failed or paused.";
        AdminSourceLimit, "admin_source_limit", Count, "Admin associations aborted because their source had too many.";
        AdminFull, "admin_full", Count, "Admin associations aborted because there were too many in all.";
        AdminLoginDisplaced, "admin_login_displaced", Count, "Admin associations without a log-in that made room for newer ones.";
        AdminLoginTimeout, "admin_login_timeout", Count, "Admin associations too slow with their log-in.";
        AdminLoginAccepted, "admin_login_accepted", Count, "Admin log-ins that were accepted.";
        AdminLoginRefused, "admin_login_refused", Count, "Admin log-ins that were refused, whatever the reason.";
        AdminLoginThrottled, "admin_login_throttled", Count, "Admin log-ins refused unhashed: too many failures from the source, or too many waiting.";
        AdminVersionUnsupported, "admin_version_unsupported", Count, "Admin associations that began with a version that is not spoken.";
        AdminRequests, "admin_requests", Count, "Requests of the admin channel.";
        AdminUnknownRequests, "admin_unknown_requests", Count, "Requests of an unknown type or command.";
        AdminInvalidRequests, "admin_invalid_requests", Count, "Requests with an argument that is not allowed.";
        AdminStalled, "admin_stalled", Count, "Admin associations aborted for taking no reply.";
        AdminUserGone, "admin_user_gone", Count, "Admin associations closed because their user was changed or removed.";
        AdminDatagramsDropped, "admin_datagrams_dropped", Count, "Datagrams to the admin channel that were dropped as malformed, unwanted or over a rate.";
    }
}

metrics! {
    /// What goes up and down.
    Gauge {
        SessionsCurrent, "sessions_current", Count, "Sessions open now.";
        DnsCacheEntries, "dns_cache_entries", Count, "Cached answers.";
        DnsLookupsCurrent, "dns_lookups_current", Count, "Look-ups under way.";
        AdminAssociationsCurrent, "admin_associations_current", Count, "Admin associations open now.";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lower_case() {
        let names: Vec<_> =
            Counter::ALL.iter().map(|c| c.name()).chain(Gauge::ALL.iter().map(|g| g.name())).collect();
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
        for name in names {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
        }
    }
}
