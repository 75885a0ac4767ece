//! A broken connection never looks complete, whatever broke it, for every observer; and an orderly
//! one never looks broken. `cut` has each cause on each leg, `clients` the programs that are not
//! ours, `answers` the HTTP service, `silent` processes that stand still, `status` what a client is
//! told of its target, and `transfer` what they share.

mod answers;
mod clients;
mod cut;
mod silent;
mod status;
mod transfer;
