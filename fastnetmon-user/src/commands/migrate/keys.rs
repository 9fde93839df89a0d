//! Every key the incumbent knew in any version, and what becomes of it here: one table.
//!
//! When a key of ours is added, its row changes from [`yet`] to [`key`]: one line. What the
//! settings of this version refuse is never written, whatever the table says. The table in
//! `docs/migration.md` is made of this one.
//!
//! **Invariant**: the order is the order of precedence: of two rows that write the same key of
//! ours, the upper one does.

/// One key of theirs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) key: &'static str,
    /// The switch without which it does nothing there.
    pub(super) under: Option<&'static str>,
    pub(super) to: To,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum To {
    /// It is a key of ours, as `section.key`, written in this form. `how`: what differs, or nothing.
    Key { place: &'static str, form: Form, how: &'static str },
    /// On and off are two things.
    Switch { on: Then, off: Then },
    /// The same whatever its value is.
    Always(Then),
    /// On, it is a key of ours that holds an address and a port, which two keys of theirs name, or
    /// else these, and `switch` of ours is on; off, it is so here as well.
    Address {
        switch: Option<&'static str>,
        /// What our key has before the address.
        scheme: &'static str,
        place: &'static str,
        keys: [&'static str; 2],
        or: [&'static str; 2],
        how: &'static str,
    },
    /// 1, or not supported; what to do.
    One(&'static str),
    /// Their moving average.
    Average,
    /// Their group of networks, with the keys that begin with its name.
    Group,
}

/// What a value comes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// It is so here as well, without being said.
    Same,
    /// It is otherwise here; how.
    Different(&'static str),
    /// Did nothing there either; why.
    Nothing(&'static str),
    /// Not supported; what to do.
    Missing(&'static str),
    /// Written as these keys of ours; how that differs.
    Write(&'static [(&'static str, &'static str)], &'static str),
}

/// How a value is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// A number that may be followed by one of these words.
    Number(&'static [&'static str]),
    /// Seconds of theirs, as milliseconds of at most 1000.
    Milliseconds,
    /// A text.
    Text,
    /// Names between commas.
    List,
    /// Their word becomes ours.
    Words(&'static [(&'static str, &'static str)]),
}

const fn key(key: &'static str, place: &'static str, form: Form, how: &'static str) -> Row {
    Row { key, under: None, to: To::Key { place, form, how } }
}

/// An export that is switched on: its place is named by two keys of theirs.
const fn export(
    key: &'static str,
    switch: &'static str,
    [scheme, place]: [&'static str; 2],
    keys: [&'static str; 2],
    port: &'static str,
    how: &'static str,
) -> Row {
    let to =
        To::Address { switch: Some(switch), scheme, place, keys, or: ["127.0.0.1", port], how };
    Row { key, under: None, to }
}

/// A number of packets or megabits that a switch of theirs makes a limit.
const fn limit(key: &'static str, switch: &'static str, place: &'static str, form: Form) -> Row {
    Row { key, under: Some(switch), to: To::Key { place, form, how: "" } }
}

/// A switch without which a limit of theirs is none; here what is not written is not checked.
const fn judged(key: &'static str) -> Row {
    switch(key, Then::Same, Then::Same)
}

/// Not supported in this version: what to do until it is.
const fn yet(key: &'static str, under: &'static str, what_to_do: &'static str) -> Row {
    Row { key, under: Some(under), to: To::Always(Then::Missing(what_to_do)) }
}

const fn switch(key: &'static str, on: Then, off: Then) -> Row {
    Row { key, under: None, to: To::Switch { on, off } }
}

/// A switch of something that is not supported in this version; off, it is so here as well.
const fn switch_yet(key: &'static str, what_to_do: &'static str) -> Row {
    switch(key, Then::Missing(what_to_do), Then::Same)
}

/// A key that another one's row takes up, where that one is on.
const fn part(key: &'static str, of: &'static str) -> Row {
    Row { key, under: Some(of), to: To::Always(Then::Same) }
}

const fn always(key: &'static str, then: Then) -> Row {
    Row { key, under: None, to: To::Always(then) }
}

/// A factor that is 1 or not supported in this version.
const fn one(key: &'static str, under: &'static str, what_to_do: &'static str) -> Row {
    Row { key, under: Some(under), to: To::One(what_to_do) }
}

const PPS: Form = Form::Number(&["pps"]);
const MBPS: Form = Form::Number(&["mbps"]);
const SECONDS: Form = Form::Number(&["s", "sec", "secs", "second", "seconds"]);

const ENGINE: &str = "the role `mirror` is taken, for a port that carries copies; where the port is \
                      the host's own way out, set `role = \"uplink\"`";
const AUTO: &[(&str, &str)] = &[("capture.engine", "\"auto\""), ("capture.role", "\"mirror\"")];
const FLOWS: &str = "flow records are not read in this version: let a mirror port or the host's own \
                     ports be watched";
const STORE: &str = "nothing is written to Kafka: Redis, Graphite, InfluxDB, ClickHouse and \
                     Prometheus have sections of their own";
const BGP: &str = "BGP is not spoken in this version: announce from the script, which is told of \
                   each ban and unban; `scripts/examples/exabgp.sh` does it by ExaBGP's pipe";
const SECRET: &str = "a secret does not stand in our file: write it into a file that only the \
                      agent's user may read, and name that as `password_file`";
const SAMPLED: &str = "sampled mirror ports are not multiplied up in this version: divide `pps` in \
                       `[thresholds]` by the ratio";
const NO_FLOW_LIMIT: &str = "flows are not counted in this version: rely on `pps` and `tcp_syn` in \
                             `[thresholds]`";
const ZERO_COPY: &str = "name the interface as PF_RING's library does, `zc:eth0`, in `interfaces`: it is \
                         then opened by the library";

/// A switch over the length of packets.
const fn length(key: &'static str) -> Row {
    switch(
        key,
        Then::Same,
        Then::Different("packets always count with the length in their IP header"),
    )
}

/// A key that does nothing without this switch.
const fn under(switch: &'static str, row: Row) -> Row {
    Row { under: Some(switch), ..row }
}

/// The keys.
pub(super) static KEYS: &[Row] = &[
    // What is done.
    switch("enable_ban", Then::Same, Then::Write(&[("ban.enabled", "false")], "")),
    switch(
        "enable_ban_ipv6",
        Then::Same,
        Then::Write(
            &[("group.all_ipv6.networks", "[\"::/0\"]"), ("group.all_ipv6.ban", "false")],
            "a group of all IPv6 networks in which nobody is banned; other groups with IPv6 networks \
             go before it",
        ),
    ),
    key(
        "notify_script_path",
        "notify.script",
        Form::Text,
        "it is called at once and three times, with `ban`, `attack_details` and `unban` as fourth \
         argument; only `attack_details` has something to read, one packet a line; for a script that \
         reads their report set `format = \"report\"` in `[notify]`",
    ),
    key("ban_time", "ban.time_secs", SECONDS, ""),
    switch(
        "unban_only_if_attack_finished",
        Then::Same,
        Then::Write(&[("ban.only_if_finished", "false")], ""),
    ),
    key("ban_details_records_count", "notify.packets", Form::Number(&["packets"]), ""),
    always(
        "notify_script_pass_details",
        Then::Different("details are passed with the call `attack_details`, and never with `ban`"),
    ),
    // What is too much.
    switch("ban_for_pps", Then::Same, Then::Write(&[("thresholds.pps", "\"off\"")], "")),
    limit("threshold_pps", "ban_for_pps", "thresholds.pps", PPS),
    judged("ban_for_bandwidth"),
    limit("threshold_mbps", "ban_for_bandwidth", "thresholds.mbps", MBPS),
    switch_yet("ban_for_flows", NO_FLOW_LIMIT),
    yet("threshold_flows", "ban_for_flows", NO_FLOW_LIMIT),
    judged("ban_for_tcp_pps"),
    judged("ban_for_tcp_bandwidth"),
    judged("ban_for_udp_pps"),
    judged("ban_for_udp_bandwidth"),
    judged("ban_for_icmp_pps"),
    judged("ban_for_icmp_bandwidth"),
    limit("threshold_tcp_pps", "ban_for_tcp_pps", "thresholds.tcp.pps", PPS),
    limit("threshold_tcp_mbps", "ban_for_tcp_bandwidth", "thresholds.tcp.mbps", MBPS),
    limit("threshold_udp_pps", "ban_for_udp_pps", "thresholds.udp.pps", PPS),
    limit("threshold_udp_mbps", "ban_for_udp_bandwidth", "thresholds.udp.mbps", MBPS),
    limit("threshold_icmp_pps", "ban_for_icmp_pps", "thresholds.icmp.pps", PPS),
    limit("threshold_icmp_mbps", "ban_for_icmp_bandwidth", "thresholds.icmp.mbps", MBPS),
    Row { key: "hostgroup", under: None, to: To::Group },
    // How speeds are made.
    Row { key: "average_calculation_time", under: None, to: To::Average },
    under(
        "enable_subnet_counters",
        always(
            "average_calculation_time_for_subnets",
            Then::Different("networks are measured over the same time as hosts"),
        ),
    ),
    switch(
        "enable_subnet_counters",
        Then::Same,
        Then::Different("networks always have counters: the page and the exports show them"),
    ),
    key("speed_calculation_delay", "capture.tick_ms", Form::Milliseconds, ""),
    always(
        "check_period",
        Then::Different(
            "the screen is drawn each second, when `fastnetmon top` \
        is asked for it; counting does not depend on it",
        ),
    ),
    switch("enable_connection_tracking", Then::Different(NO_FLOW_LIMIT), Then::Same),
    // Whom to guard.
    key("networks_list_path", "networks.list", Form::Text, ""),
    key("white_list_path", "networks.whitelist", Form::Text, ""),
    switch(
        "monitor_local_ip_addresses",
        Then::Missing(
            "the host's own addresses are not added in this version: list them in the networks file",
        ),
        Then::Same,
    ),
    switch(
        "monitor_openvz_vps_ip_addresses",
        Then::Same,
        Then::Write(&[("networks.openvz_veip", "\"\"")], ""),
    ),
    switch(
        "process_incoming_traffic",
        Then::Same,
        Then::Write(
            &[("thresholds.incoming.pps", "\"off\""), ("thresholds.incoming.mbps", "\"off\"")],
            "it is counted and shown all the same; limits by protocol hold for it",
        ),
    ),
    switch(
        "process_outgoing_traffic",
        Then::Same,
        Then::Write(
            &[("thresholds.outgoing.pps", "\"off\""), ("thresholds.outgoing.mbps", "\"off\"")],
            "it is counted and shown all the same; limits by protocol hold for it",
        ),
    ),
    // What sees the packets.
    key("interfaces", "capture.interfaces", Form::List, ""),
    switch(
        "mirror_afxdp",
        Then::Write(&[("capture.engine", "\"xdp\""), ("capture.role", "\"mirror\"")], ENGINE),
        Then::Same,
    ),
    switch(
        "mirror_afpacket",
        Then::Write(&[("capture.engine", "\"af_packet\""), ("capture.role", "\"mirror\"")], ENGINE),
        Then::Same,
    ),
    switch(
        "mirror",
        Then::Write(&[("capture.engine", "\"pf_ring\""), ("capture.role", "\"mirror\"")], ENGINE),
        Then::Same,
    ),
    switch(
        "pcap",
        Then::Write(&[("capture.engine", "\"pcap\""), ("capture.role", "\"mirror\"")], ENGINE),
        Then::Same,
    ),
    switch(
        "mirror_netmap",
        Then::Write(
            AUTO,
            "there is no netmap engine: `auto` takes XDP or packet sockets; check `role`",
        ),
        Then::Same,
    ),
    switch(
        "mirror_snabbswitch",
        Then::Write(
            AUTO,
            "there is no Snabb engine: `auto` takes XDP or packet sockets on interfaces by name",
        ),
        Then::Same,
    ),
    yet(
        "interfaces_snabbswitch",
        "mirror_snabbswitch",
        "name the interfaces, not PCI addresses, in `interfaces`",
    ),
    under("mirror", switch("enable_pf_ring_zc_mode", Then::Different(ZERO_COPY), Then::Same)),
    switch(
        "pfring_hardware_filters_enabled",
        Then::Missing("nothing is dropped in the card: let the script do it"),
        Then::Same,
    ),
    one("pfring_sampling_ratio", "mirror", SAMPLED),
    one("netmap_sampling_ratio", "mirror_netmap", SAMPLED),
    one("mirror_af_packet_custom_sampling_rate", "mirror_afpacket", SAMPLED),
    under(
        "mirror_afpacket",
        always(
            "mirror_af_packet_fanout_mode",
            Then::Different(
                "a packet is taken by the CPU that received it, as with `cpu`; versions from 1.2.8 ignored \
         the key",
            ),
        ),
    ),
    under(
        "mirror_afxdp",
        switch(
            "xdp_set_promisc",
            Then::Different(
                "with XDP the port must be made promiscuous by you: `ip link set dev PORT promisc on`",
            ),
            Then::Same,
        ),
    ),
    under(
        "mirror_afxdp",
        switch(
            "force_native_mode_xdp",
            Then::Same,
            Then::Different(
                "`xdp` is always native; `xdp_generic` is another engine, chosen by name",
            ),
        ),
    ),
    under(
        "mirror_afxdp",
        switch(
            "zero_copy_xdp",
            Then::Same,
            Then::Different("copies are saved wherever the driver can"),
        ),
    ),
    under(
        "mirror_afxdp",
        always(
            "poll_mode_xdp",
            Then::Different("not needed: the kernel counts, and wakes the agent"),
        ),
    ),
    under(
        "mirror_afxdp",
        always(
            "microcode_xdp_path",
            Then::Different("not needed: the programs are part of the agent"),
        ),
    ),
    under("mirror_afxdp", length("xdp_read_packet_length_from_ip_header")),
    under("mirror_afpacket", length("af_packet_read_packet_length_from_ip_header")),
    under("mirror_netmap", length("netmap_read_packet_length_from_ip_header")),
    under("sflow", length("sflow_read_packet_length_from_ip_header")),
    switch(
        "dump_all_traffic",
        Then::Missing("use `tcpdump`, or `fastnetmon explain` on a capture file"),
        Then::Same,
    ),
    switch(
        "dump_other_traffic",
        Then::Missing("use `tcpdump`, or `fastnetmon explain` on a capture file"),
        Then::Same,
    ),
    // Flow records.
    switch_yet("netflow", FLOWS),
    yet("netflow_port", "netflow", FLOWS),
    yet("netflow_host", "netflow", FLOWS),
    yet("netflow_sampling_ratio", "netflow", FLOWS),
    yet("netflow_divide_counters_on_interval_length", "netflow", FLOWS),
    yet("netflow_lua_hooks_path", "netflow", FLOWS),
    switch_yet("sflow", FLOWS),
    yet("sflow_port", "sflow", FLOWS),
    yet("sflow_host", "sflow", FLOWS),
    yet("sflow_lua_hooks_path", "sflow", FLOWS),
    // What is kept and sent elsewhere.
    export(
        "redis_enabled",
        "redis.enabled",
        ["", "redis.server"],
        ["redis_host", "redis_port"],
        "6379",
        "traffic is counted there as well, in bytes; `traffic = false` in `[redis]` leaves bans alone",
    ),
    part("redis_host", "redis_enabled"),
    part("redis_port", "redis_enabled"),
    under("redis_enabled", key("redis_prefix", "redis.prefix", Form::Text, "")),
    export(
        "graphite",
        "graphite.enabled",
        ["", "graphite.server"],
        ["graphite_host", "graphite_port"],
        "2003",
        "hosts below `min_pps` are not written, and no paths of flows",
    ),
    part("graphite_host", "graphite"),
    part("graphite_port", "graphite"),
    under("graphite", key("graphite_prefix", "graphite.prefix", Form::Text, "")),
    under("graphite", key("graphite_push_period", "graphite.interval_secs", SECONDS, "")),
    export(
        "influxdb",
        "influxdb.enabled",
        ["http://", "influxdb.url"],
        ["influxdb_host", "influxdb_port"],
        "8086",
        "hosts below `min_pps` are not written, and no fields of flows",
    ),
    part("influxdb_host", "influxdb"),
    part("influxdb_port", "influxdb"),
    under("influxdb", key("influxdb_database", "influxdb.database", Form::Text, "")),
    under("influxdb", judged("influxdb_auth")),
    under("influxdb_auth", key("influxdb_user", "influxdb.username", Form::Text, "")),
    yet("influxdb_password", "influxdb_auth", SECRET),
    under("influxdb", key("influxdb_push_period", "influxdb.interval_secs", SECONDS, "")),
    export(
        "clickhouse_metrics",
        "clickhouse.enabled",
        ["http://", "clickhouse.url"],
        ["clickhouse_metrics_host", ""],
        "8123",
        "over HTTP, at port 8123; `fastnetmon export init clickhouse` makes the tables, which have \
         more columns than theirs",
    ),
    under(
        "clickhouse_metrics",
        key("clickhouse_metrics_database", "clickhouse.database", Form::Text, ""),
    ),
    under(
        "clickhouse_metrics",
        key("clickhouse_metrics_username", "clickhouse.username", Form::Text, ""),
    ),
    yet("clickhouse_metrics_password", "clickhouse_metrics", SECRET),
    part("clickhouse_metrics_host", "clickhouse_metrics"),
    under(
        "clickhouse_metrics",
        always(
            "clickhouse_metrics_port",
            Then::Different("the port of its HTTP interface is taken: `url` in `[clickhouse]`"),
        ),
    ),
    under(
        "clickhouse_metrics",
        key("clickhouse_metrics_push_period", "clickhouse.interval_secs", SECONDS, ""),
    ),
    Row {
        key: "prometheus",
        under: None,
        to: To::Address {
            switch: None,
            scheme: "",
            place: "web.listen",
            keys: ["prometheus_host", "prometheus_port"],
            or: ["127.0.0.1", "9209"],
            how: "the page and the API are there as well; beyond loopback they need `token_file` in \
                  `[web]`",
        },
    },
    part("prometheus_host", "prometheus"),
    part("prometheus_port", "prometheus"),
    switch_yet("kafka_traffic_export", STORE),
    yet("kafka_traffic_export_topic", "kafka_traffic_export", STORE),
    yet("kafka_traffic_export_format", "kafka_traffic_export", STORE),
    yet("kafka_traffic_export_brokers", "kafka_traffic_export", STORE),
    switch(
        "mongodb_enabled",
        Then::Missing("MongoDB is not supported: let the script store what it is told"),
        Then::Same,
    ),
    yet("mongodb_host", "mongodb_enabled", "MongoDB is not supported"),
    yet("mongodb_port", "mongodb_enabled", "MongoDB is not supported"),
    yet("mongodb_database_name", "mongodb_enabled", "MongoDB is not supported"),
    switch(
        "collect_attack_pcap_dumps",
        Then::Write(
            &[("packets.enabled", "true")],
            "the packets of the dump, as pcapng, in `folder` of `[packets]`; versions since 2023 filled \
             buffers and wrote no file",
        ),
        Then::Write(&[("packets.enabled", "false")], ""),
    ),
    switch(
        "process_pcap_attack_dumps_with_dpi",
        Then::Nothing("it worked on files that `collect_attack_pcap_dumps` no longer wrote"),
        Then::Same,
    ),
    always("geo_ip_database_path", Then::Nothing("it was compiled in and switched off")),
    // BGP.
    switch_yet("exabgp", BGP),
    yet("exabgp_command_pipe", "exabgp", BGP),
    yet("exabgp_community", "exabgp", BGP),
    yet("exabgp_community_subnet", "exabgp", BGP),
    yet("exabgp_community_host", "exabgp", BGP),
    yet("exabgp_next_hop", "exabgp", BGP),
    yet("exabgp_announce_host", "exabgp", BGP),
    yet("exabgp_announce_whole_subnet", "exabgp", BGP),
    yet("exabgp_flow_spec_announces", "exabgp", BGP),
    switch_yet("gobgp", BGP),
    yet("gobgp_next_hop", "gobgp", BGP),
    yet("gobgp_next_hop_host_ipv4", "gobgp", BGP),
    yet("gobgp_next_hop_subnet_ipv4", "gobgp", BGP),
    yet("gobgp_announce_host", "gobgp", BGP),
    yet("gobgp_announce_whole_subnet", "gobgp", BGP),
    yet("gobgp_community_host", "gobgp", BGP),
    yet("gobgp_community_subnet", "gobgp", BGP),
    yet("gobgp_next_hop_ipv6", "gobgp", BGP),
    yet("gobgp_next_hop_host_ipv6", "gobgp", BGP),
    yet("gobgp_next_hop_subnet_ipv6", "gobgp", BGP),
    yet("gobgp_announce_host_ipv6", "gobgp", BGP),
    yet("gobgp_announce_whole_subnet_ipv6", "gobgp", BGP),
    yet("gobgp_community_host_ipv6", "gobgp", BGP),
    yet("gobgp_community_subnet_ipv6", "gobgp", BGP),
    // What is shown and written down.
    key(
        "logging_level",
        "log.level",
        Form::Words(&[
            ("debug", "debug"),
            ("info", "info"),
            ("notice", "info"),
            ("warn", "warn"),
            ("warning", "warn"),
            ("error", "error"),
            ("crit", "error"),
            ("alert", "error"),
            ("emerg", "error"),
            ("fatal", "error"),
        ]),
        "the log goes to standard error, which the service manager keeps",
    ),
    switch(
        "logging_local_syslog_logging",
        Then::Different(
            "the log goes to standard error: let the service manager hand it to syslog",
        ),
        Then::Same,
    ),
    switch(
        "logging_remote_syslog_logging",
        Then::Missing("let the system's own syslog forward the journal"),
        Then::Same,
    ),
    yet(
        "logging_remote_syslog_server",
        "logging_remote_syslog_logging",
        "let the system's own syslog forward the journal",
    ),
    yet(
        "logging_remote_syslog_port",
        "logging_remote_syslog_logging",
        "let the system's own syslog forward the journal",
    ),
    always(
        "sort_parameter",
        Then::Different("`fastnetmon top` orders by packets or bytes at the keys `p` and `b`"),
    ),
    key(
        "max_ips_in_list",
        "screen.rows",
        Form::Number(&[]),
        "for the screen as a file; `fastnetmon top` shows as many as fit",
    ),
    key(
        "cli_stats_file_path",
        "screen.file",
        Form::Text,
        "it has the hosts of both families, and only the group `fastnetmon` may read it",
    ),
    always(
        "cli_stats_ipv6_file_path",
        Then::Different("the `file` in `[screen]` has the hosts of both families"),
    ),
    always("pid_path", Then::Different("not needed: the control socket shows that an agent runs")),
    switch(
        "enable_api",
        Then::Different(
            "there is no gRPC: operators ask over the control socket, programs over HTTP (`listen` in \
             `[web]`)",
        ),
        Then::Same,
    ),
    switch("disable_usage_report", Then::Same, Then::Different("nothing is ever sent to anybody")),
];

/// What may stand behind the name of a group and `_`: a limit, the switch that makes it one, and the
/// key of ours below the group's `thresholds`.
pub(super) const GROUP_LIMITS: [(&str, &str, &str); 8] = [
    ("threshold_pps", "ban_for_pps", "pps"),
    ("threshold_mbps", "ban_for_bandwidth", "mbps"),
    ("threshold_tcp_pps", "ban_for_tcp_pps", "tcp.pps"),
    ("threshold_tcp_mbps", "ban_for_tcp_bandwidth", "tcp.mbps"),
    ("threshold_udp_pps", "ban_for_udp_pps", "udp.pps"),
    ("threshold_udp_mbps", "ban_for_udp_bandwidth", "udp.mbps"),
    ("threshold_icmp_pps", "ban_for_icmp_pps", "icmp.pps"),
    ("threshold_icmp_mbps", "ban_for_icmp_bandwidth", "icmp.mbps"),
];

/// What else may stand there: nothing of ours has its like.
pub(super) const GROUP_FLOWS: [&str; 2] = ["ban_for_flows", "threshold_flows"];

/// What becomes of these where they are on.
pub(super) const NO_FLOWS: &str = NO_FLOW_LIMIT;

/// Is a switch on that the file does not have? The first versions had none for these and acted.
pub(super) fn is_on_by_default(switch: &str) -> bool {
    matches!(switch, "enable_ban" | "ban_for_pps")
}

/// The row of a key. Older versions wrote `logging:` for `logging_`.
pub(super) fn find(name: &str) -> Option<&'static Row> {
    let modern = name.replacen("logging:", "logging_", 1);
    KEYS.iter().find(|row| row.key == modern)
}
