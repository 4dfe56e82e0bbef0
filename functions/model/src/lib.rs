//! SyncSphere's words as types. What is parsed into one of these is valid everywhere after; nothing here does I/O.

mod body;
mod digest;
mod event;
mod frame;
mod id;
mod limits;
mod path;

pub use body::{
    CreateTicketRequest, CreateUploadRequest, CreatedTicket, CreatedUpload, CurrentVersion, Empty,
    FileChanged, PresignedPut,
};
pub use digest::{InvalidSha256, Sha256};
pub use event::{Event, EventType, SCHEMA_VERSION, UndecodableEvent};
pub use frame::{MAX_FRAME_BYTES, Pong, frames};
pub use id::{DeviceId, EventId, FileId, InvalidUserId, SpaceId, UploadId, UserId};
pub use limits::{ByteCount, ContentType, InvalidContentType, InvalidNumber, Sequence, Version};
pub use path::{InvalidPath, MAX_PATH_BYTES, SpacePath};
