//! Images as the API shows them.

use crate::{
    container::GraphDriver,
    create::{Config, Pairs},
    omit,
};

wire! {
    /// One line of `images`.
    Summary {
        containers: i64,
        created: i64,
        id: String,
        labels: Option<Pairs>,
        parent_id: String,
        repo_digests: Option<Vec<String>>,
        repo_tags: Option<Vec<String>>,
        shared_size: i64,
        size: i64,
        #[serde(skip_serializing_if = "omit")] virtual_size: i64,
    }

    /// `image inspect`.
    Inspect {
        id: String,
        repo_tags: Vec<String>,
        repo_digests: Vec<String>,
        parent: String,
        comment: String,
        created: String,
        #[serde(skip_serializing_if = "omit")] container: Option<String>,
        #[serde(skip_serializing_if = "omit")] container_config: Option<Config>,
        docker_version: String,
        author: String,
        config: Option<Config>,
        architecture: String,
        #[serde(skip_serializing_if = "omit")] variant: String,
        os: String,
        #[serde(skip_serializing_if = "omit")] os_version: String,
        size: i64,
        #[serde(skip_serializing_if = "omit")] virtual_size: i64,
        graph_driver: GraphDriver,
        #[serde(rename = "RootFS")] root_fs: RootFs,
        metadata: Metadata,
    }

    /// The layers.
    RootFs {
        #[serde(rename = "Type", skip_serializing_if = "omit")] kind: String,
        #[serde(skip_serializing_if = "omit")] layers: Vec<String>,
    }

    /// What this engine knows beside the image.
    Metadata { #[serde(skip_serializing_if = "omit")] last_tag_time: String }

    /// One line of `history`.
    History {
        comment: String,
        created: i64,
        created_by: String,
        id: String,
        size: i64,
        tags: Option<Vec<String>>,
    }

    /// One line of `rmi`.
    Deleted {
        #[serde(skip_serializing_if = "omit")] untagged: String,
        #[serde(skip_serializing_if = "omit")] deleted: String,
    }

    /// `image tree`, ours: what every image takes, and how its layers stand on one another.
    Tree { total: u64, images: Vec<TreeImage> }

    /// One image of the tree; its layers lowest first.
    TreeImage {
        id: String,
        repo_tags: Vec<String>,
        size: u64,
        shared: u64,
        containers: u64,
        layers: Vec<TreeLayer>,
    }

    /// One layer of an image.
    TreeLayer { #[serde(rename = "DiffID")] diff_id: String, size: u64 }

    /// What a registry has under a name.
    Distribution { descriptor: RemoteDescriptor, platforms: Vec<RemotePlatform> }

    /// OCI's, of a manifest or index at a registry.
    RemoteDescriptor {
        #[serde(rename = "mediaType")] media_type: String,
        #[serde(rename = "digest")] digest: String,
        #[serde(rename = "size")] size: i64,
    }

    /// OCI's, of an image at a registry.
    RemotePlatform {
        #[serde(rename = "architecture")] architecture: String,
        #[serde(rename = "os")] os: String,
        #[serde(rename = "variant", skip_serializing_if = "omit")] variant: String,
    }

    /// `image prune`.
    Prune { images_deleted: Option<Vec<Deleted>>, space_reclaimed: u64 }
}
