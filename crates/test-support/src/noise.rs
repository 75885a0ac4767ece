//! Bytes that differ everywhere, so that a lost, repeated or moved block shows, and their checksum.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const MIB: usize = 1 << 20;

/// An endless sequence, the same for the same seed (splitmix64).
pub struct Noise(u64);

impl Noise {
    /// The beginning of the sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next bytes of it; whole blocks of eight, but for the last.
    pub fn fill(&mut self, block: &mut [u8]) {
        for chunk in block.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// How much there was, and its SHA-256.
#[derive(Debug, PartialEq, Eq)]
pub struct Sum {
    pub bytes: usize,
    digest: Vec<u8>,
}

/// Writes `mib` MiB of noise and the end; gives what was written.
pub async fn send<W>(mut writer: W, seed: u64, mib: usize) -> std::io::Result<Sum>
where
    W: AsyncWrite + Unpin,
{
    let mut noise = Noise::new(seed);
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut block = vec![0; MIB];
    for _ in 0..mib {
        noise.fill(&mut block);
        digest.update(&block);
        writer.write_all(&block).await?;
    }
    writer.shutdown().await?;
    Ok(Sum {
        bytes: mib * MIB,
        digest: digest.finish().as_ref().to_vec(),
    })
}

/// Reads to the end; gives what was read.
pub async fn receive<R>(mut reader: R) -> std::io::Result<Sum>
where
    R: AsyncRead + Unpin,
{
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut bytes = 0;
    let mut block = vec![0; MIB];
    loop {
        match reader.read(&mut block).await? {
            0 => break,
            count => {
                digest.update(&block[..count]);
                bytes += count;
            }
        }
    }
    Ok(Sum {
        bytes,
        digest: digest.finish().as_ref().to_vec(),
    })
}
