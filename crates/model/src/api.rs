//! Bodies of the HTTP API's requests and responses.

mod batch;
mod file;
mod invitation;
mod space;
mod ticket;
mod upload;

pub use batch::{
    BatchResults, ChangeFilesRequest, ChangeOutcome, CompleteUploadsRequest, CreateUploadsRequest,
    FileChange, ItemResult, MAX_BATCH_ITEMS, OpeningOutcome,
};
pub use file::{
    Composite, CurrentVersion, DeletedFileList, DeletedFileView, DownloadUrl, FileChanged, FileDetail,
    FileList, FileVersion, FileView, FolderList, FolderView, InvalidTrashKey, MoveFileRequest, NoFile,
    RestoreFileRequest, RestoreVersionRequest, TrashKey,
};
pub use invitation::{
    AcceptInvitationRequest, DeclineInvitationRequest, InvitationList, InvitationView, InviteRequest,
    ReceivedInvitation, ReceivedInvitationList,
};
pub use space::{
    ChangeList, CreateSpaceRequest, DeletedSpaceList, DeletedSpaceView, LimitUse, MemberList, MemberView,
    ProfileView, RenameSpaceRequest, RestoreSpaceRequest, SetMemberRequest, SpaceList, SpaceView, Usage,
};
pub use ticket::{CreateTicketRequest, CreatedTicket};
pub use upload::{
    CompleteUploadRequest, CreateUploadRequest, CreatedUpload, PartRequest, PendingUpload, PendingUploadList,
    PresignPartsRequest, PresignedPart, PresignedParts, PresignedPut, StoredPart, Transfer, UploadStatus,
    UploadView,
};
