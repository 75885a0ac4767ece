//! `infisical-ping`: answers one line and closes.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

pub(super) async fn serve<S: AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    stream.write_all(b"PONG\n").await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn the_answer_is_one_line() {
        let (mut client, server) = tokio::io::duplex(64);
        super::serve(server).await.expect("written");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("ends");
        assert_eq!(answer, "PONG\n");
    }
}
