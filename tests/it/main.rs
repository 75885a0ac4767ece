//! The program as its users run it: real processes, real sockets, real certificates, and OpenSSH,
//! OpenSSL, curl and the deployed programs as peers that are not ours. `support` holds the
//! builders, every other module one subject.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a case fails by panicking, and prints its children's output when it does"
)]
#![allow(missing_docs, reason = "a test has no readers but those of its source")]

mod access;
mod api_answers;
mod api_proxy;
mod audit;
mod bad_ssh_certificates;
mod bad_targets;
mod bad_x509_certificates;
mod ca_rotation;
mod check;
mod cli;
mod cli_domains;
mod completions;
mod configuration;
mod connect_bad_peers;
mod connect_check;
mod connect_proxy;
mod connect_services;
mod credentials;
mod deployed_commands;
mod dev;
mod doctor;
mod egress;
mod enrollment;
mod error_texts;
mod failover;
mod fairness;
mod file_variables;
mod floods;
mod go_peers;
mod handover;
mod install;
mod install_paths;
mod install_preview;
mod integrity;
mod interop;
mod json_shapes;
mod live_sessions;
mod load;
mod load_generator;
mod login;
mod logs;
mod make_install;
mod memory;
mod metrics;
mod organizations;
mod people;
mod platform;
mod platform_audit;
mod platform_backup;
mod platform_tls;
mod privileges;
mod progress;
mod quiet_logs;
mod recovery;
mod redirects;
mod registration;
mod reload;
mod renewal;
mod resolution;
mod rolling_restart;
mod round_trip;
mod scanners;
mod screens;
mod service_manager;
mod services;
mod shortage;
mod shutdown;
mod ssh_peers;
mod standard_output;
mod status;
mod target_policy;
mod threads;
mod tls_errors;
mod values;
mod web;

use infisical_test_support as support;
