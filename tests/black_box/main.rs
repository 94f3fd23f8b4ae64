//! Black-box tests: the real binary over real sockets. Ports come from the kernel; waits have
//! deadlines.

// A test binary has no outside: everything is reachable only from here.
#![allow(unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

mod affinity;
mod apache;
mod balance;
mod control;
mod dashboard;
mod dashboard_live;
mod deploying;
mod duplex;
mod events;
mod exchange;
mod explain;
mod farm;
mod forwarded;
mod hostile;
mod http2;
mod hygiene;
mod identity;
mod kubernetes;
mod lab;
mod links;
mod logs;
mod metrics;
mod nginx;
mod openapi;
mod passive;
mod pins;
mod proxy_protocol;
mod proxy_protocol_out;
mod publish;
mod reload;
mod rewrite_host;
mod rolling;
mod rules;
mod service;
mod several;
mod sizing;
mod stop;
mod streams;
mod tls;
mod traces;
mod upgrade;
mod windows;
