//! SyncSphere's domain types. A value is validated once, when it is parsed. This crate does no I/O.

#![warn(missing_docs)]

mod api;
mod caller;
mod digest;
mod event;
mod frame;
mod id;
mod message;
mod modified;
mod numbers;
mod page;
mod parts;
mod path;
mod space;
mod visible;

pub use api::{
    AcceptInvitationRequest, BatchResults, ChangeFilesRequest, ChangeList, ChangeOutcome,
    CompleteUploadRequest, CompleteUploadsRequest, Composite, CreateSpaceRequest, CreateTicketRequest,
    CreateUploadRequest, CreateUploadsRequest, CreatedTicket, CreatedUpload, CurrentVersion,
    DeclineInvitationRequest, DeletedFileList, DeletedFileView, DeletedSpaceList, DeletedSpaceView,
    DownloadUrl, FileChange, FileChanged, FileDetail, FileList, FileVersion, FileView, FolderList,
    FolderView, InvalidTrashKey, InvitationList, InvitationView, InviteRequest, ItemResult, LimitUse,
    MAX_BATCH_ITEMS, MemberList, MemberView, MoveFileRequest, NoFile, OpeningOutcome, PartRequest,
    PendingUpload, PendingUploadList, PresignPartsRequest, PresignedPart, PresignedParts, PresignedPut,
    ProfileView, ReceivedInvitation, ReceivedInvitationList, RenameSpaceRequest, RestoreFileRequest,
    RestoreSpaceRequest, RestoreVersionRequest, SetMemberRequest, SpaceList, SpaceView, StoredPart, Transfer,
    TrashKey, UploadStatus, UploadView, Usage,
};
pub use caller::{
    Caller, EmailAddress, InvalidEmailAddress, InvalidPersonName, MAX_PERSON_NAME_BYTES, PersonName, Profile,
};
pub use digest::{InvalidSha256, Sha256};
pub use event::{Change, Event, FileState};
pub use frame::{MAX_FRAME_BYTES, frames};
pub use id::{
    DELETED_USER, DeviceId, Epoch, EventId, FileId, InvalidId, InvalidUserId, InvitationId, SpaceId,
    UploadId, UserId,
};
pub use message::{
    Delivery, Message, PageKey, Recipients, SCHEMA_VERSION, UndecodableMessage, UnwritableMessage,
};
pub use modified::{InvalidModifiedAt, ModifiedAt};
pub use numbers::{
    ByteCount, ContentType, Cursor, Days, IdempotencyKey, InvalidContentType, InvalidIdempotencyKey,
    InvalidNumber, KeptVersions, MAX_IDEMPOTENCY_KEY_BYTES, PageLimit, PartNumber, Sequence, Version,
};
pub use page::{InvalidPageToken, PageQuery, PageToken, page};
pub use parts::{MAX_PARTS, MIN_PART_BYTES, PartLayout};
pub use path::{
    FolderKey, FolderPath, InvalidPath, MAX_PATH_BYTES, MAX_SEGMENT_BYTES, PathPrefix, SpacePath,
};
pub use space::{
    INVITATION_LIFETIME, InvalidRole, InvalidSpaceKind, InvalidSpaceName, InvisibleSpaceName, MAX_MEMBERS,
    MAX_SPACE_NAME_BYTES, Role, SpaceKind, SpaceName,
};
