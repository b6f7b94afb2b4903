//! DescribeGroups and ListGroups.

use bytes::Bytes;

use super::api::{DescribedMember, Description, GroupState, ListRequest, Listing, Name};
use super::group::Group;

/// The one group type served here (KIP-848's name for it).
const CLASSIC: &str = "classic";

impl Group {
    /// The group as DescribeGroups shows it; protocol data only while it is stable.
    pub(super) fn describe(&self) -> Description {
        let stable = self.state == GroupState::Stable;
        let protocol = self
            .protocol
            .clone()
            .filter(|_| stable)
            .unwrap_or_else(|| Name::from(""));
        let members = self.members.values().map(|member| DescribedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if stable {
                member.metadata(&protocol)
            } else {
                Bytes::new()
            },
            assignment: if stable {
                member.assignment.clone()
            } else {
                Bytes::new()
            },
        });
        Description {
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| Name::from("")),
            members: members.collect(),
            protocol,
        }
    }

    /// The group as ListGroups shows it, if the filters let it pass.
    pub(super) fn list(&self, request: &ListRequest) -> Option<Listing> {
        let passes = |filter: &[Name], value: &str| {
            filter.is_empty() || filter.iter().any(|name| name.eq_ignore_ascii_case(value))
        };
        if !passes(&request.states, self.state.name()) || !passes(&request.types, CLASSIC) {
            return None;
        }
        Some(Listing {
            group: self.id.clone(),
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| Name::from("")),
            state: self.state,
        })
    }
}
