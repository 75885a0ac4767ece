//! Sockets: dialling, listening, accepting, copying. Knows nothing of tunnels.

pub mod accept;
pub mod buffers;
pub mod copy;
mod cpu_budget;
pub mod dead_peer;
pub mod delegate;
pub mod dial;
pub mod handshake_cpu;
pub mod handshake_progress;
pub mod handshakes;
mod happy_eyeballs;
mod late_close;
pub mod limits;
pub mod listen;
mod lookups;
pub mod own_sockets;
pub mod pooled_buf_reader;
pub mod progress;
pub mod reset;
pub mod resolve;
pub mod source;
pub mod status;
mod tcp_info;
pub mod traffic;
pub mod unix_socket;
pub mod yield_budget;
