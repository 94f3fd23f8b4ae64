//! Limits on clients, protection against guessed passwords, events.

use crate::config::{
    model::{
        net::FilePath,
        value::{Count, Number, Size, Timeout},
    },
    record::record,
};

record! {
    /// Limits on clients.
    pub struct Limits {
        /// Client connections at a time. Default 20000.
        default connections: Count = Number(20_000),
        /// Client connections at a time from one address. Default 500: an office behind one
        /// address holds several for every person.
        default connections_per_source: Count = Number(500),
        /// Client connections at a time that own a server connection. Default 20000.
        default pins: Number<1, 1_000_000> = Number(20_000),
        /// The same from one address. Default 1000.
        default pins_per_source: Count = Number(1_000),
        /// Time for a TLS handshake. Default `10s`.
        default tls_handshake: Timeout = Timeout::secs(10),
        /// Time for the whole header of a request. Default `15s`.
        default header_timeout: Timeout = Timeout::secs(15),
        /// How long a client connection may stay open without a request. Default `120s`.
        default keep_alive: Timeout = Timeout::secs(120),
        /// Largest header block. Default `128KiB`: Kerberos tickets of people in many groups.
        default header_size: Size = Size(128 << 10),
        /// Most header fields. Default 200.
        default headers: Number<1, 256> = Number(200),
        /// Longest request target. Default `16KiB`.
        default url: Size = Size(16 << 10),
        /// Requests at a time on one HTTP/2 connection. Default 100.
        default h2_streams: Count = Number(100),
    }
}

record! {
    /// Protection against guessed passwords.
    pub struct Spray {
        /// Failed sign-ins from one address.
        section per_source: SpraySource,
        /// Failed sign-ins of one user.
        section per_user: SprayUser,
        /// How long a client that once signed in counts as known. Default `30d`.
        default familiar: Timeout = Timeout::secs(30 * 24 * 3600),
        /// Keep digests instead of user names. Default `false`.
        default hash_names: bool = false,
    }
}

record! {
    /// Failed sign-ins from one address.
    pub struct SpraySource {
        /// How many are allowed. Default 20.
        default failures: Count = Number(20),
        /// In what time. Default `10m`.
        default within: Timeout = Timeout::secs(600),
        /// How long the address stays out afterwards. Default `30m`.
        default ban: Timeout = Timeout::secs(1800),
    }
}

record! {
    /// Failed sign-ins of one user.
    pub struct SprayUser {
        /// How many are allowed. Default 5: fewer than the domain's own lockout.
        default failures: Count = Number(5),
        /// In what time. Default `15m`.
        default within: Timeout = Timeout::secs(900),
        /// How long the user stays out afterwards. Default `15m`.
        default lock: Timeout = Timeout::secs(900),
    }
}

record! {
    /// Who is told when something happens.
    pub struct Events {
        /// A program that is run with each event as JSON on standard input, for 30 s at most and
        /// without the environment of Frontgate. Default: none.
        optional command: FilePath,
        /// A URL that each event is posted to as JSON; tried again for two minutes where it fails.
        /// Default: none.
        optional webhook: String,
    }
}
