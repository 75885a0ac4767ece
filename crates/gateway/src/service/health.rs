//! `infisical-health`: the platform's probe during a heartbeat. Tells how often heartbeats come, so
//! that the platform knows when to miss one.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::heartbeat;

pub(super) async fn serve<S: AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let ttl = heartbeat::INTERVAL.as_secs();
    let answer = format!("{{\"status\":\"ok\",\"heartbeatTTL\":{ttl}}}\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn answer_is_the_protocols_to_the_byte() {
        let (mut client, server) = tokio::io::duplex(64);
        super::serve(server).await.expect("written");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("ends");
        assert_eq!(answer, "{\"status\":\"ok\",\"heartbeatTTL\":180}\n");
    }
}
