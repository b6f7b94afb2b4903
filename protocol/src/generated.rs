//! Messages of ours, written by `protocol/generator`: what the library lacks in its newest
//! version, and the fetch response and produce request, whose records the library would copy.

pub mod api_versions_request;
pub mod delete_groups_response;
pub mod describe_log_dirs_response;
pub mod fetch_response;
pub mod offset_commit_request;
pub mod offset_fetch_request;
pub mod produce_request;
