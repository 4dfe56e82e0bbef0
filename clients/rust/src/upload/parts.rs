//! Sending content in parts. It is read once: each part is held in memory from the computation of its SHA-256
//! until storage has it. Reading and hashing of the next parts overlap with sending.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::pin;

use bytes::Bytes;
use futures_util::future::{Fuse, FusedFuture as _, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use model::{ByteCount, PartLayout, PartNumber, PartRequest, PresignedPut, Sha256, StoredPart, UploadId};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::task::spawn_blocking;
use tokio::try_join;

use super::source::slice;
use super::{Source, byte_count, digest};
use crate::{Client, Error, Progress, Sha256Stream};

/// Parts of one upload that are sent at the same time.
const CONCURRENT_PARTS: usize = 4;

/// Parts that are presigned at the same time. Their URLs are valid for an hour, and a slow line must send the
/// parts within it.
const PRESIGNED_PARTS: usize = 4 * CONCURRENT_PARTS;

const MIB: u64 = 1024 * 1024;

/// The memory for the parts of all uploads of a client, in MiB: twelve parts of the smallest size, a third of
/// which is sent while the others are presigned, hashed and read.
const BUFFER_MIB: u32 = 96;

/// A larger part is not held in memory. It is read again when it is sent, and storage refuses it if it then
/// has another SHA-256. Only files of more than 230 GiB have such parts.
const MAX_BUFFERED_BYTES: u64 = 24 * MIB;

/// The memory for parts.
#[derive(Debug)]
pub(crate) struct Buffers(Semaphore);

impl Default for Buffers {
    fn default() -> Self {
        Self(Semaphore::new(BUFFER_MIB as usize))
    }
}

/// A part of the content in memory. Dropping it makes room for another one.
struct Buffer<'a> {
    offset: u64,
    content: Bytes,
    _memory: Option<SemaphorePermit<'a>>,
}

impl Source for Buffer<'_> {
    fn size(&self) -> u64 {
        self.offset + self.content.len() as u64
    }

    async fn read(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        let from = offset
            .checked_sub(self.offset)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        slice(&self.content, from, length).map(|piece| self.content.slice_ref(piece))
    }
}

/// A part that was read, if it is small enough.
struct Part<'a> {
    number: PartNumber,
    offset: u64,
    length: u64,
    buffer: Option<Buffer<'a>>,
}

/// A part that storage does not have.
struct MissingPart<'a> {
    part: Part<'a>,
    sha256: Sha256,
}

impl MissingPart<'_> {
    fn request(&self) -> PartRequest {
        PartRequest {
            part_number: self.part.number,
            sha256: self.sha256,
        }
    }
}

impl Client {
    /// Sends the parts that storage does not have. Returns the SHA-256 of the whole content.
    pub(super) async fn send_parts(
        &self,
        upload_id: UploadId,
        layout: PartLayout,
        content: &(impl Source + ?Sized),
        stored: &[StoredPart],
        progress: &impl Progress,
    ) -> Result<Sha256, Error> {
        // The memory for the buffers bounds what is in the channels. They are short for larger parts.
        let (read, to_hash) = mpsc::channel(1);
        let (hashed, to_send) = mpsc::channel(1);
        let ((), whole, ()) = try_join!(
            self.read_parts(layout, content, read),
            hash_parts(content, stored, progress, to_hash, hashed),
            self.send_missing_parts(upload_id, content, progress, to_send),
        )?;
        Ok(whole)
    }

    async fn read_parts<'a>(
        &'a self,
        layout: PartLayout,
        content: &(impl Source + ?Sized),
        read: mpsc::Sender<Part<'a>>,
    ) -> Result<(), Error> {
        let size = byte_count(content.size())?;
        for number in 1..=layout.part_count.get() {
            let number = PartNumber::try_from(number).map_err(|_| Error::TooLarge)?;
            let (offset, length) = part_range(layout, number, size)?;
            let buffer = if length <= MAX_BUFFERED_BYTES {
                let mebibytes = u32::try_from(length.div_ceil(MIB)).unwrap_or(BUFFER_MIB);
                // The semaphore is never closed.
                let memory = self.buffers.0.acquire_many(mebibytes).await.ok();
                Some(Buffer {
                    offset,
                    content: content.read(offset, length).await?,
                    _memory: memory,
                })
            } else {
                None
            };
            let part = Part {
                number,
                offset,
                length,
                buffer,
            };
            if read.send(part).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Presigns parts and sends them. While presigned parts wait to be sent, more parts are gathered, so that
    /// one request presigns several.
    async fn send_missing_parts(
        &self,
        upload_id: UploadId,
        content: &(impl Source + ?Sized),
        progress: &impl Progress,
        mut parts: mpsc::Receiver<MissingPart<'_>>,
    ) -> Result<(), Error> {
        let mut gathered = Vec::new();
        let mut presigned = VecDeque::new();
        let mut sending = FuturesUnordered::new();
        let mut presigning = pin!(Fuse::terminated());
        let mut are_all_hashed = false;
        loop {
            while sending.len() < CONCURRENT_PARTS
                && let Some((part, put)) = presigned.pop_front()
            {
                sending.push(self.send_part(upload_id, content, part, put, progress));
            }
            let is_due = presigned.is_empty() || gathered.len() >= PRESIGNED_PARTS;
            if is_due && presigning.is_terminated() && !gathered.is_empty() {
                presigning.set(self.presign(upload_id, std::mem::take(&mut gathered)).fuse());
            }
            tokio::select! {
                part = parts.recv(), if !are_all_hashed && gathered.len() < PRESIGNED_PARTS => match part {
                    Some(part) => gathered.push(part),
                    None => are_all_hashed = true,
                },
                more = &mut presigning, if !presigning.is_terminated() => presigned.extend(more?),
                Some(sent) = sending.next(), if !sending.is_empty() => sent?,
                else => return Ok(()),
            }
        }
    }

    async fn presign<'a>(
        &self,
        upload_id: UploadId,
        parts: Vec<MissingPart<'a>>,
    ) -> Result<Vec<(MissingPart<'a>, PresignedPut)>, Error> {
        let wanted = parts.iter().map(MissingPart::request).collect();
        let presigned = self.presign_parts(upload_id, wanted).await?;
        // They are in the order of the request.
        let puts = presigned.parts.into_iter().map(|part| part.put);
        Ok(parts.into_iter().zip(puts).collect())
    }

    async fn send_part(
        &self,
        upload_id: UploadId,
        content: &(impl Source + ?Sized),
        missing: MissingPart<'_>,
        put: PresignedPut,
        progress: &impl Progress,
    ) -> Result<(), Error> {
        let renew_url = async || {
            let presigned = self.presign_parts(upload_id, vec![missing.request()]).await?;
            Ok(presigned.parts.into_iter().next().map(|part| part.put))
        };
        let Part { offset, length, .. } = missing.part;
        match &missing.part.buffer {
            Some(buffer) => {
                self.put(&put, buffer, offset, length, progress, renew_url, None)
                    .await
            }
            None => {
                self.put(&put, content, offset, length, progress, renew_url, None)
                    .await
            }
        }
    }
}

/// Computes the SHA-256 of the parts, and passes those on that storage does not have. Returns the SHA-256 of the
/// whole content.
async fn hash_parts<'a>(
    content: &(impl Source + ?Sized),
    stored: &[StoredPart],
    progress: &impl Progress,
    mut parts: mpsc::Receiver<Part<'a>>,
    hashed: mpsc::Sender<MissingPart<'a>>,
) -> Result<Sha256, Error> {
    let stored: BTreeMap<PartNumber, Sha256> = stored
        .iter()
        .map(|part| (part.part_number, part.sha256))
        .collect();
    let mut whole = Sha256Stream::default();
    while let Some(part) = parts.recv().await {
        let sha256;
        if let Some(buffer) = &part.buffer {
            (sha256, whole) = hash_both(&buffer.content, whole).await?;
        } else {
            sha256 = digest(
                content,
                part.offset,
                part.length,
                |piece| whole.update(piece),
                &(),
            )
            .await?;
        }
        // The stored part may come from an earlier state of the file.
        if stored.get(&part.number) == Some(&sha256) {
            progress.skipped(part.length);
        } else if hashed.send(MissingPart { part, sha256 }).await.is_err() {
            break;
        }
    }
    Ok(whole.finish())
}

/// Returns the SHA-256 of a part, and that of the whole content up to its end. They are computed at the same
/// time, because SHA-256 of one stream uses one core.
async fn hash_both(part: &Bytes, mut whole: Sha256Stream) -> io::Result<(Sha256, Sha256Stream)> {
    let (one, other) = (part.clone(), part.clone());
    let of_part = spawn_blocking(move || crate::sha256(&one));
    let of_whole = spawn_blocking(move || {
        whole.update(&other);
        whole
    });
    Ok((of_part.await?, of_whole.await?))
}

/// The offset and the length of a part, in bytes.
fn part_range(layout: PartLayout, part: PartNumber, size: ByteCount) -> Result<(u64, u64), Error> {
    let length = layout.size_of(part, size).ok_or(Error::TooLarge)?;
    let offset = (part.get() - 1) * layout.part_size.get();
    Ok((offset.unsigned_abs(), length.get().unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content of two full parts and a rest of 1 byte.
    fn content() -> (Vec<u8>, PartLayout) {
        let content: Vec<u8> = (0..2_001_u32).map(|number| number.to_le_bytes()[0]).collect();
        let size = ByteCount::try_from(2_001).unwrap();
        let layout = PartLayout::with_part_size(size, 1_000.try_into().unwrap()).unwrap();
        (content, layout)
    }

    #[tokio::test]
    async fn each_part_and_the_whole_are_hashed_and_stored_parts_are_left_out() {
        let (content, layout) = content();
        let client = Client::new("http://127.0.0.1:1", crate::Token::from("token".to_owned()), None).unwrap();
        let stored = |number: i64, piece: &[u8]| StoredPart {
            part_number: number.try_into().unwrap(),
            size: 1_000.try_into().unwrap(),
            sha256: crate::sha256(piece),
        };
        // The second one is of an earlier state of the file.
        let stored = [stored(1, &content[..1_000]), stored(2, b"earlier")];
        let (read, to_hash) = mpsc::channel(1);
        let (hashed, mut missing) = mpsc::channel(8);
        let content = content.as_slice();
        let ((), whole) = try_join!(
            client.read_parts(layout, content, read),
            hash_parts(content, &stored, &(), to_hash, hashed),
        )
        .unwrap();
        assert_eq!(whole, crate::sha256(content));
        for (number, range) in [(2, 1_000..2_000), (3, 2_000..2_001)] {
            let MissingPart { part, sha256 } = missing.recv().await.unwrap();
            assert_eq!(
                (part.number.get(), sha256),
                (number, crate::sha256(&content[range.clone()]))
            );
            let (buffer, offset) = (part.buffer.unwrap(), range.start as u64);
            assert_eq!(
                buffer.read(offset, range.len() as u64).await.unwrap(),
                content[range]
            );
            assert!(buffer.read(offset, part.length + 1).await.is_err());
            assert!(buffer.read(offset - 1, 1).await.is_err());
        }
        assert!(missing.recv().await.is_none());
    }
}
