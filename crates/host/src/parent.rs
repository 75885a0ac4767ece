//! A process that must not outlive the one that started it.
//!
//! The parent holds the writing end of a pipe that is this process's standard input, and writes
//! nothing. However the parent ends, the kernel closes its end, and that is the end of file awaited
//! here.

use std::io;
use std::os::fd::AsFd as _;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use crate::scope::Scope;

/// Standard input is not the parent's pipe.
#[derive(Debug, thiserror::Error)]
#[error("standard input is not a pipe")]
pub struct Error(#[source] io::Error);

/// Cancels `scope` when standard input, a pipe, ends; whatever comes before its end is ignored.
/// Must be called inside the runtime.
///
/// # Errors
/// Standard input is something else.
pub fn stop_with_parent(scope: &Scope) -> Result<(), Error> {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(Error)?;
    let pipe = pipe::Receiver::from_owned_fd(stdin).map_err(Error)?;
    let stop = scope.clone();
    // Not tracked by the scope it cancels: the pipe may well stay open for longer than the scope.
    Scope::new("parent").spawn("parent", async move {
        if stop.run(ended(pipe)).await.is_some() {
            tracing::info!("the parent process has ended; stopping");
            stop.cancel();
        }
    });
    Ok(())
}

async fn ended(mut pipe: pipe::Receiver) {
    let mut ignored = [0; 64];
    while matches!(pipe.read(&mut ignored).await, Ok(1..)) {}
}

#[cfg(test)]
mod tests {
    use super::ended;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::unix::pipe;

    #[tokio::test]
    async fn bytes_are_ignored_end_is_seen() {
        let (mut held, pipe) = pipe::pipe().expect("a pipe");
        held.write_all(&[b'x'; 200]).await.expect("write");
        drop(held);
        ended(pipe).await;
    }
}
