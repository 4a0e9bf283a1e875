complete -c socks5d -s l -l socks-addr -d 'Listen for SOCKS clients on this address; auto: every interface where all must log in, else loopback [up to 64 IPv4 or IPv6 addresses, or auto; default auto; repeatable]' -r
complete -c socks5d -s p -l socks-port -d 'Port of the SOCKS listeners [0 to 65535 (0: the kernel chooses); default 1080]' -r
complete -c socks5d -s L -l admin-addr -d 'Listen for the admin channel on this address [up to 64 IPv4 or IPv6 addresses; default 127.0.0.1,::1; repeatable]' -r
complete -c socks5d -s P -l admin-port -d 'Port of the admin channel [0 to 65535 (0: the kernel chooses); default 8080]' -r
complete -c socks5d -l admin-transport -d 'What carries the admin channel: SCTP of the kernel or over UDP; auto: the kernel\'s where it has SCTP, else UDP [auto, kernel, udp or both; default auto]' -r -f -a "auto\t''
kernel\t''
udp\t''
both\t''"
complete -c socks5d -l admin-udp-port -d 'UDP port of the admin channel, where it is carried over UDP [0 to 65535 (0: the kernel chooses); default 9899]' -r
complete -c socks5d -l metrics-listen -d 'Serve metrics and health over HTTP there, to anyone who reaches it [up to 64 addresses with ports, as 127.0.0.1:9108, or off; default off; repeatable]' -r
complete -c socks5d -s u -l user -d 'A user of the proxy; everybody can read it in the process list, so prefer --users-file [repeatable]' -r
complete -c socks5d -s a -l admin -d 'An administrator, for the admin channel only; with --user as well, for both [repeatable]' -r
complete -c socks5d -l users-file -d 'Read users from this file, which only its owner may be able to read: lines NAME:PASS, or with :observer, :operator or :admin behind it (for both doors), and # comments' -r -F
complete -c socks5d -l auth -d 'Who must log in; auto: everybody once there are users, nobody before [auto, required, optional or none; default auto]' -r -f -a "auto\t''
required\t''
optional\t''
none\t''"
complete -c socks5d -l deny-private -d 'Refuse destinations that are not public: loopback, private and link-local networks, multicast' -r
complete -c socks5d -l dns -d 'Who is asked; auto: the relay, plain DNS while it does not answer. Naming a relay (--doh-ip, --doh-host or --doh-path) makes it doh [auto, doh or system; default auto]' -r -f -a "auto\t''
doh\t''
system\t''"
complete -c socks5d -l doh-ip -d 'Address of the DNS-over-HTTP relay [an IPv4 or IPv6 address; default 127.0.0.1]' -r
complete -c socks5d -l doh-port -d 'Port of the relay [1 to 65535; default 8053]' -r
complete -c socks5d -l doh-host -d 'What the relay is called in the Host field [a host name or an address, with a port if need be, at most 261 octets; default localhost]' -r
complete -c socks5d -l doh-path -d 'Path of the relay [a slash, then visible ASCII without ? and #, at most 1024 octets; default /dns-query]' -r
complete -c socks5d -l doh-query -d 'What stands between path and message in a GET [nothing, or ? and visible ASCII without #, at most 1024 octets; default ?dns=]' -r
complete -c socks5d -l doh-method-post -d 'Ask the relay with POST instead of GET' -r
complete -c socks5d -l hosts -d 'The hosts file: its names are never asked for [a path, at most 4095 octets; default /etc/hosts]' -r -F
complete -c socks5d -l resolv-conf -d 'Where the servers for plain DNS stand, as nameserver lines [a path, at most 4095 octets; default /etc/resolv.conf]' -r -F
complete -c socks5d -l buffer-size -d 'I/O buffer: the most that one read takes [512 B to 16 MiB; default 256 KiB]' -r
complete -c socks5d -l max-sessions -d 'Sessions at once; above, new ones wait to be accepted. auto: as many as descriptors allow [1 to 4194304, or auto; default auto]' -r
complete -c socks5d -l max-sessions-per-source -d 'Sessions at once from one address; further ones are closed [1 to 4194304, or off; default off]' -r
complete -c socks5d -l spread-from -d 'Sessions of the first worker from which on new ones go to the others too; 0: at once [0 to 4194304; default 64]' -r
complete -c socks5d -l bind-outgoing -d 'Connect to origins from this address; auto: the kernel chooses [at most one IPv4 and one IPv6 address, or auto; default auto; repeatable]' -r
complete -c socks5d -l tcp-keepalive -d 'Probe connections that are silent for that long, so that dead peers are noticed [1 s to 32767 s, or off; default 60 s]' -r
complete -c socks5d -l tcp-user-timeout -d 'Break a connection whose bytes were not acknowledged for that long; off: the kernel\'s patience [100 ms to 86400 s, or off; default off]' -r
complete -c socks5d -l tcp-congestion -d 'Congestion control of all connections; auto: the kernel\'s default, on loopback reno [auto, or a name of tcp_available_congestion_control, at most 15 octets; default auto]' -r
complete -c socks5d -l mark -d 'Mark connections to origins for routing rules (SO_MARK); takes CAP_NET_ADMIN [1 to 4294967295, or off; default off]' -r
complete -c socks5d -l dissector -d 'Log credentials that new sessions send in clear (HTTP Basic, POP3) and the origin takes; mask: stars for the password [off, mask or full; default off]' -r -f -a "off\t''
mask\t''
full\t''"
complete -c socks5d -s N -l no-dissectors -d 'The same as --dissector off' -r
complete -c socks5d -l idle-timeout -d 'Close a session after this long without a byte either way [100 ms to 86400 s, or off; default 300 s]' -r
complete -c socks5d -s D -l no-idle-timeout -d 'The same as --idle-timeout off' -r
complete -c socks5d -l handshake-timeout -d 'From accepting a client to the last byte of its request [100 ms to 600 s; default 10 s]' -r
complete -c socks5d -l connect-timeout -d 'One attempt to connect to one address of an origin [100 ms to 30 s; default 10 s]' -r
complete -c socks5d -l half-closed-timeout -d 'Close a session of which one side has finished after this long without a byte [100 ms to 86400 s; default 60 s]' -r
complete -c socks5d -l poll-timeout -d 'Longest sleep of a worker for which nothing happens [1 s to 255 s; default 10 s]' -r
complete -c socks5d -l drain-timeout -d 'How long sessions may go on after the first SIGTERM or SIGINT [0 s to 3600 s; default 10 s]' -r
complete -c socks5d -l access-log -d 'Where a line for each session goes; a file is opened again on SIGHUP [the path of a file, stdout or off; default stdout]' -r -F
complete -c socks5d -l log-format -d 'Form of those lines; tab: when the reply is sent, json: when the session ends [tab or json; default tab]' -r -f -a "tab\t''
json\t''"
complete -c socks5d -l log-level -d 'Most detailed diagnostics on standard error [error, warn, info, debug, trace or off; default info]' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''
off\t''"
complete -c socks5d -l metrics-users -d 'Users that have metrics of their own; the others are shown as one [0 to 1000; default 20]' -r
complete -c socks5d -l workers -d 'Worker threads; one for each usable core by default [1 to 1024]' -r
complete -c socks5d -l state-dir -d 'Folder of what outlives a run; auto: $STATE_DIRECTORY, else socks5d in $XDG_STATE_HOME or ~/.local/state [an absolute path, at most 4095 octets, or auto; default auto]' -r -f -a "(__fish_complete_directories)"
complete -c socks5d -l config -d 'Read settings from this TOML file; its keys are the long options without dashes before them' -r -F
complete -c socks5d -s v -l version -d 'Print the version'
complete -c socks5d -s h -l help -d 'Print this text'
