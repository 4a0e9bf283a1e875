//! Every metric: its name, unit and meaning, in one list. Everything that shows metrics reads this list: the
//! admin channel, the metrics endpoint, docs/METRICS.md, and the test of the alert rules.
//!
//! The endpoint adds `socks5d_` in front and the unit behind (`_bytes`, `_seconds`, `_total`). A row `in` a
//! family is one value of that family's label: several rows are then one metric there.

/// What a metric's value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things or events.
    Count,
    /// Bytes.
    Bytes,
    /// Time: kept in microseconds, shown in seconds where numbers have fractions.
    Microseconds,
}

/// Whose value a gauge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The daemon's.
    Daemon,
    /// Each worker has its own.
    Worker,
}

macro_rules! metrics {
    ($(#[$kind_doc:meta])* $kind:ident {
        $($variant:ident, $name:literal, $unit:ident $(per $scope:ident)? $(in $family:ident $value:literal)?,
            $meaning:literal;)+
    }) => {
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

            /// Whose value it is.
            #[must_use]
            pub fn scope(self) -> Scope {
                match self { $(Self::$variant => scope!($($scope)?),)+ }
            }

            /// The family that it belongs to at the endpoint, and the value of that family's label; `None`: it
            /// stands there alone, under its own name.
            #[must_use]
            pub fn family(self) -> Option<(Family, &'static str)> {
                match self { $(Self::$variant => family!($($family $value)?),)+ }
            }
        }
    };
}

macro_rules! scope {
    () => {
        Scope::Daemon
    };
    ($scope:ident) => {
        Scope::$scope
    };
}

macro_rules! family {
    () => {
        None
    };
    ($family:ident $value:literal) => {
        Some((Family::$family, $value))
    };
}

macro_rules! families {
    ($($variant:ident, $name:literal, $label:literal, $meaning:literal;)+) => {
        /// Counters that the endpoint shows as one metric, told apart by a label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Family {
            $(#[doc = $meaning] $variant,)+
        }

        impl Family {
            /// Every family, in the order of the list.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name, as of a single metric.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What its label is called.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }

            /// One sentence on what its members have in common.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}

families! {
    Connected, "sessions_connected", "ip", "Sessions connected to their origin, by the origin's address family.";
    Payload, "payload", "direction", "Payload moved, up to origins and down to clients.";
    Replies, "replies", "reply", "Replies to requests (RFC 1928 section 6).";
    ProtocolErrors, "protocol_errors", "cause", "Clients that did not speak SOCKS5 as it is to be spoken.";
    Timeouts, "session_timeouts", "limit", "Sessions closed because a time limit had passed.";
    Logins, "logins", "outcome", "Log-ins to the proxy.";
    ConnectFailures, "connect_failures", "cause", "Attempts to connect to an origin that failed.";
    DestinationsRefused, "destinations_refused", "cause", "Destinations that nobody was connected to.";
    RelayErrors, "relay_errors", "cause", "Sessions that ended with an error while bytes moved.";
    DnsQueries, "dns_queries_sent", "server", "DNS questions sent.";
    DnsCache, "dns_cache_lookups", "outcome", "Look-ups in the cache of answers.";
    DnsFailures, "dns_failures", "cause", "DNS questions that failed.";
    Credentials, "credentials_noticed", "protocol", "Credentials noticed in clear.";
    DissectorEnds, "dissector_given_up", "cause", "Watched sessions that nobody looks at any more.";
    AdminRefused, "admin_associations_refused", "cause", "Admin associations that got no place.";
    AdminEnded, "admin_associations_ended", "cause", "Admin associations that the daemon ended.";
    AdminLogins, "admin_logins", "outcome", "Log-ins to the admin channel.";
    HttpRequests, "http_requests", "outcome", "Requests to the metrics endpoint.";
    HttpBroken, "http_connections_broken", "cause", "Connections to the metrics endpoint that the daemon gave up.";
    UserPayload, "user_payload", "direction", "Payload of the user's sessions, up to origins and down to clients.";
    AdminBadRequests, "admin_bad_requests", "cause", "Requests of the admin channel that could not be carried out.";
}

metrics! {
    /// What only grows.
    Counter {
        SessionsAccepted, "sessions_accepted", Count, "Connections accepted from clients.";
        SessionsRelayed, "sessions_relayed", Count, "Sessions whose origin was connected.";
        SessionsClosed, "sessions_closed", Count, "Sessions that ended, whatever the cause.";
        SessionsKilled, "sessions_killed", Count, "Sessions ended by an administrator, or because their user was changed.";
        NewsDropped, "news_dropped", Count, "Session events and trace steps that the control loop took too slowly.";
        SessionsIpv4, "sessions_ipv4", Count in Connected "ipv4", "Sessions connected to an IPv4 origin.";
        SessionsIpv6, "sessions_ipv6", Count in Connected "ipv6", "Sessions connected to an IPv6 origin.";
        SessionsByName, "sessions_by_name", Count, "Sessions that asked for a name, not an address.";
        BytesUp, "bytes_up", Bytes in Payload "up", "Payload from clients to origins.";
        BytesDown, "bytes_down", Bytes in Payload "down", "Payload from origins to clients.";
        ReplySucceeded, "reply_succeeded", Count in Replies "succeeded", "Replies 00.";
        ReplyGeneralFailure, "reply_general_failure", Count in Replies "general_failure", "Replies 01.";
        ReplyNotAllowed, "reply_not_allowed", Count in Replies "not_allowed", "Replies 02.";
        ReplyNetworkUnreachable, "reply_network_unreachable", Count in Replies "network_unreachable", "Replies 03.";
        ReplyHostUnreachable, "reply_host_unreachable", Count in Replies "host_unreachable", "Replies 04.";
        ReplyConnectionRefused, "reply_connection_refused", Count in Replies "connection_refused", "Replies 05.";
        ReplyTtlExpired, "reply_ttl_expired", Count in Replies "ttl_expired", "Replies 06: attempts that timed out.";
        ReplyCommandNotSupported, "reply_command_not_supported", Count in Replies "command_not_supported", "Replies 07.";
        ReplyAddressTypeNotSupported, "reply_address_type_not_supported", Count in Replies "address_type_not_supported", "Replies 08.";
        ProtocolVersion, "protocol_version", Count in ProtocolErrors "version", "Clients whose first byte was not SOCKS5.";
        ProtocolMalformed, "protocol_malformed", Count in ProtocolErrors "malformed", "Clients that broke the dialogue after its first byte.";
        ProtocolNoMethod, "protocol_no_method", Count in ProtocolErrors "no_method", "Clients that offered no method we accept (FF).";
        ProtocolBadName, "protocol_bad_name", Count in ProtocolErrors "bad_name", "Requests with a name that is empty, zoned or not ASCII.";
        ClientGone, "client_gone", Count, "Clients that closed before their request was answered.";
        HandshakeTimeout, "handshake_timeout", Count in Timeouts "handshake", "Clients too slow with their handshake.";
        IdleTimeout, "idle_timeout", Count in Timeouts "idle", "Sessions closed for moving no byte.";
        HalfClosedTimeout, "half_closed_timeout", Count in Timeouts "half_closed", "Half-closed sessions closed for moving no byte.";
        AuthAccepted, "auth_accepted", Count in Logins "accepted", "Log-ins that were accepted.";
        AuthRefused, "auth_refused", Count in Logins "refused", "Log-ins refused for name, password or door.";
        AuthThrottled, "auth_throttled", Count in Logins "throttled", "Log-ins refused unhashed: too many failures from the source.";
        AuthQueueFull, "auth_queue_full", Count in Logins "queue_full", "Log-ins refused because too many waited to be hashed.";
        ConnectRefused, "connect_refused", Count in ConnectFailures "refused", "Connect attempts the origin refused.";
        ConnectTimeout, "connect_timeout", Count in ConnectFailures "timeout", "Connect attempts that timed out.";
        ConnectUnreachable, "connect_unreachable", Count in ConnectFailures "unreachable", "Connect attempts without a route.";
        ConnectFailed, "connect_failed", Count in ConnectFailures "other", "Connect attempts that failed otherwise.";
        ConnectDenied, "connect_denied", Count in DestinationsRefused "policy", "Destinations that policy refused.";
        ConnectLoop, "connect_loop", Count in DestinationsRefused "loop", "Destinations that were the proxy itself.";
        RelayReset, "relay_reset", Count in RelayErrors "reset", "Sessions that ended with a reset of either side.";
        RelayFailed, "relay_failed", Count in RelayErrors "other", "Sessions that ended with another I/O error.";
        AcceptPaused, "accept_paused", Count, "Times that accepting paused for want of descriptors or by a limit.";
        AcceptFailed, "accept_failed", Count, "Accepts that failed.";
        SourceLimit, "source_limit", Count, "Connections closed because their source had too many.";
        HandOff, "hand_off", Count, "Connections handed to a less loaded worker.";
        SessionsLent, "sessions_lent", Count, "Sessions that moved much, lent to a carrier. One that does so again and again counts each time.";
        InboxFull, "inbox_full", Count, "Messages to a worker that found its inbox full.";
        DnsLookups, "dns_lookups", Count, "Names that were looked up, cached or not.";
        DnsQueries, "dns_queries", Count in DnsQueries "relay", "Questions sent to the relay.";
        DnsPlainQueries, "dns_plain_queries", Count in DnsQueries "plain", "Questions sent to plain DNS.";
        DnsCacheHits, "dns_cache_hits", Count in DnsCache "hit", "Answers found in the cache.";
        DnsCacheMisses, "dns_cache_misses", Count in DnsCache "miss", "Answers not found in the cache.";
        DnsCacheEvictions, "dns_cache_evictions", Count, "Cached answers that made room for others.";
        DnsStale, "dns_stale", Count, "Answers served past their TTL because nothing else answered.";
        DnsHosts, "dns_hosts", Count, "Answers from /etc/hosts and localhost.";
        DnsJoined, "dns_joined", Count, "Questions that joined one already under way.";
        DnsNotFound, "dns_not_found", Count, "Names without any address.";
        DnsServerFailure, "dns_server_failure", Count in DnsFailures "server_failure", "Questions answered with an RCODE other than 0 and 3.";
        DnsTimeout, "dns_timeout", Count in DnsFailures "timeout", "Questions nobody answered in time.";
        DnsRelayRefused, "dns_relay_refused", Count in DnsFailures "relay_refused", "Connects to the relay that failed.";
        DnsRelayStatus4xx, "dns_relay_status_4xx", Count in DnsFailures "relay_status_4xx", "Questions the relay refused with a 4xx.";
        DnsRelayStatus5xx, "dns_relay_status_5xx", Count in DnsFailures "relay_status_5xx", "Questions the relay failed with a 5xx or another status.";
        DnsRelayInvalidHttp, "dns_relay_invalid_http", Count in DnsFailures "relay_invalid_http", "Answers of the relay that were not valid HTTP or not DNS by type.";
        DnsInvalidAnswer, "dns_invalid_answer", Count in DnsFailures "invalid_answer", "DNS messages that were malformed or answered another question.";
        DnsQueueFull, "dns_queue_full", Count in DnsFailures "queue_full", "Look-ups refused because too many were under way.";
        DnsRelaySwitch, "dns_relay_switch", Count, "Times that the relay was marked down or up.";
        CredentialsHttp, "credentials_http", Count in Credentials "http", "Credentials noticed in clear in HTTP.";
        CredentialsPop3, "credentials_pop3", Count in Credentials "pop3", "Credentials noticed in clear in POP3.";
        DissectorNotMine, "dissector_not_mine", Count in DissectorEnds "not_mine", "Watched sessions that spoke neither HTTP nor POP3.";
        DissectorMalformed, "dissector_malformed", Count in DissectorEnds "malformed", "Watched sessions given up for breaking the rules of their protocol.";
        DissectorLimit, "dissector_limit", Count in DissectorEnds "limit", "Watched sessions given up after as much as is looked at.";
        DissectorSwitched, "dissector_switched", Count in DissectorEnds "switched", "Watched sessions given up when they became TLS, a tunnel or something else.";
        LogLinesDropped, "log_lines_dropped", Count, "Access-log lines lost because the writer could not keep up.";
        AdminAssociations, "admin_associations", Count, "Associations of the admin channel that came about.";
        AdminAcceptFailed, "admin_accept_failed", Count in AdminRefused "accept_failed", "Admin associations that could not be taken: accept failed or paused.";
        AdminSourceLimit, "admin_source_limit", Count in AdminRefused "source_limit", "Admin associations aborted because their source had too many.";
        AdminFull, "admin_full", Count in AdminRefused "full", "Admin associations aborted because there were too many in all.";
        AdminLoginDisplaced, "admin_login_displaced", Count in AdminEnded "displaced", "Admin associations without a log-in that made room for newer ones.";
        AdminLoginTimeout, "admin_login_timeout", Count in AdminEnded "login_timeout", "Admin associations too slow with their log-in.";
        AdminLoginAccepted, "admin_login_accepted", Count in AdminLogins "accepted", "Admin log-ins that were accepted.";
        AdminLoginRefused, "admin_login_refused", Count in AdminLogins "refused", "Admin log-ins that were refused, whatever the reason.";
        AdminLoginThrottled, "admin_login_throttled", Count, "Admin log-ins refused unhashed: too many failures from the source, or too many waiting.";
        AdminVersionUnsupported, "admin_version_unsupported", Count in AdminEnded "version_unsupported", "Admin associations that began with a version that is not spoken.";
        AdminRequests, "admin_requests", Count, "Requests of the admin channel.";
        AdminUnknownRequests, "admin_unknown_requests", Count in AdminBadRequests "unknown", "Requests of an unknown type or command.";
        AdminInvalidRequests, "admin_invalid_requests", Count in AdminBadRequests "invalid", "Requests with an argument that is not allowed.";
        AdminRecordsMalformed, "admin_records_malformed", Count in AdminEnded "malformed", "Admin associations of version 2 that ended for octets that are no record.";
        AdminStalled, "admin_stalled", Count in AdminEnded "stalled", "Admin associations aborted for taking no reply.";
        AdminUserGone, "admin_user_gone", Count in AdminEnded "user_gone", "Admin associations closed because their user was changed or removed.";
        AdminEventsMissed, "admin_events_missed", Count, "Events and samples that followers on the admin channel missed for not reading.";
        AdminLogLinesMissed, "admin_log_lines_missed", Count, "Log lines that somebody followed and that found no room on their way.";
        HttpAnswered, "http_answered", Count in HttpRequests "answered", "Requests to the metrics endpoint that got what they asked for, 503 among it.";
        HttpRefused, "http_refused", Count in HttpRequests "refused", "Requests to the metrics endpoint that were no sound request, or for something that is not there (4xx).";
        HttpTimeout, "http_timeout", Count in HttpBroken "timeout", "Connections to the metrics endpoint too slow with their request, or with taking the answer.";
        HttpDisplaced, "http_displaced", Count in HttpBroken "displaced", "Connections to the metrics endpoint that made room for newer ones.";
        HttpAcceptFailed, "http_accept_failed", Count in HttpBroken "accept_failed", "Connections to the metrics endpoint that could not be accepted or watched.";
        AdminDatagramsDropped, "admin_datagrams_dropped", Count, "Datagrams to the admin channel that were dropped as malformed, unwanted or over a rate.";
    }
}

metrics! {
    /// What goes up and down.
    Gauge {
        SessionsCurrent, "sessions_current", Count per Worker, "Sessions open now.";
        SessionsRelaying, "sessions_relaying", Count per Worker, "Sessions connected to their origin now.";
        DnsCacheEntries, "dns_cache_entries", Count per Worker, "Cached answers.";
        DnsLookupsCurrent, "dns_lookups_current", Count per Worker, "Look-ups under way.";
        SessionsHighest, "sessions_highest", Count, "Most sessions open at once since the start.";
        AdminAssociationsCurrent, "admin_associations_current", Count, "Admin associations open now.";
    }
}

metrics! {
    /// How values are spread.
    Histogram {
        HandshakeDuration, "handshake_duration", Microseconds, "From accepting a client to the last byte of its request.";
        DnsDuration, "dns_duration", Microseconds, "Looking a name up, cached or not, for sessions that asked for one.";
        ConnectDuration, "connect_duration", Microseconds, "Connecting to an origin, all attempts together, successful or not.";
        SessionDuration, "session_duration", Microseconds, "From accepting a client to the end of its session, whatever became of it.";
        SessionUp, "session_up", Bytes, "Payload from client to origin of sessions that were connected, at their end.";
        SessionDown, "session_down", Bytes, "Payload from origin to client of sessions that were connected, at their end.";
    }
}

metrics! {
    /// What the control loop knows when it is asked, at the endpoint.
    Fact {
        Ready, "ready", Count, "1 while new clients are served; 0 while draining, out of descriptors, or full.";
        StartTime, "start_time", Microseconds, "When the daemon started, since 1970.";
        Workers, "workers", Count, "Worker threads.";
        Users, "users", Count, "Users, anonymous included.";
        SessionsMax, "sessions_max", Count, "Sessions that are possible at once: --max-sessions, or what descriptors allow.";
        DescriptorsMax, "descriptors_max", Count, "File descriptors that the daemon may have open.";
    }
}

metrics! {
    /// What is shown of single users at the endpoint. As many as --metrics-users says have a label of their own,
    /// the others share `(others)`.
    PerUser {
        Sessions, "user_sessions", Count, "Sessions of the user connected to their origin now.";
        Relayed, "user_sessions_relayed", Count, "Sessions of the user that were connected to their origin.";
        Up, "user_bytes_up", Bytes in UserPayload "up", "Payload from the user's clients to origins.";
        Down, "user_bytes_down", Bytes in UserPayload "down", "Payload from origins to the user's clients.";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lower_case() {
        let names = Counter::ALL.iter().map(|c| c.name()).chain(Gauge::ALL.iter().map(|g| g.name()));
        let names =
            names.chain(Histogram::ALL.iter().map(|h| h.name())).chain(Fact::ALL.iter().map(|f| f.name()));
        let names: Vec<_> = names.chain(PerUser::ALL.iter().map(|u| u.name())).collect();
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

    #[test]
    fn members_of_a_family_differ_in_their_label_and_agree_in_their_unit() {
        for family in Family::ALL {
            let counters = Counter::ALL.iter().filter_map(|c| c.family().map(|is| (is, c.unit())));
            let users = PerUser::ALL.iter().filter_map(|u| u.family().map(|is| (is, u.unit())));
            let members = counters.chain(users).filter(|((of, _), _)| of == family);
            let (mut labels, units): (Vec<_>, Vec<_>) =
                members.map(|((_, label), unit)| (label, unit)).unzip();
            assert!(labels.len() > 1, "{family:?}: a family of one is none");
            assert!(units.iter().all(|unit| Some(unit) == units.first()), "{family:?}");
            let count = labels.len();
            labels.sort_unstable();
            labels.dedup();
            assert_eq!(labels.len(), count, "{family:?}");
        }
    }
}
