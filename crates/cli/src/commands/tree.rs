//! `image tree`: which images share which layers, and what each costs.

use std::collections::BTreeMap;
use std::io::Write;

use api::image::{Tree as Answer, TreeImage};
use clap::Args;

use super::Context;
use crate::error::Result;
use crate::format::{Table, short_id};
use crate::terminal::Plain;
use crate::words::size::human_decimal;

/// Show which images share which layers, and what each layer costs
///
/// A layer stands below the one that it was made on. Its size is what it takes on disk, unpacked and packed; it is
/// free again when all images to its right and below have gone.
#[derive(Debug, Args)]
pub(crate) struct Tree {
    /// Format output as 'json'
    #[arg(long, value_name = "string", value_parser = ["json"])]
    format: Option<String>,
}

/// Layers on one layer, and the images that end at it.
#[derive(Debug, Default)]
struct Node {
    size: u64,
    images: Vec<String>,
    above: BTreeMap<String, Node>,
}

impl Tree {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        if self.format.is_some() {
            let mut raw = cx.client.get_raw("/images/tree").await?.to_vec();
            if !raw.ends_with(b"\n") {
                raw.push(b'\n');
            }
            Plain::Out.write_all(&raw)?;
            return Ok(0);
        }
        let answer: Answer = cx.client.get("/images/tree").await?;
        Plain::Out.write_all(draw(&answer).as_bytes())?;
        Ok(0)
    }
}

fn draw(answer: &Answer) -> String {
    let mut root = Node::default();
    for image in &answer.images {
        root.add(image);
    }
    let mut table = Table::default();
    table.line("LAYER\tSIZE\tIMAGES");
    root.draw(&mut table, "", true);
    let text = table.draw();
    let mut costs = Table::default();
    costs.line("\nIMAGE\tSIZE\tSHARED\tUNIQUE\tCONTAINERS");
    for image in &answer.images {
        let [all, shared, own] =
            [image.size, image.shared, image.size - image.shared].map(|bytes| human_decimal(bytes as f64));
        costs.line(&format!("{}\t{all}\t{shared}\t{own}\t{}", called(image), image.containers));
    }
    let together = human_decimal(answer.total as f64);
    text + &costs.draw() + &format!("\nAll images together take {together}.\n")
}

fn called(image: &TreeImage) -> String {
    let id = short_id(&image.id);
    if image.repo_tags.is_empty() { id.to_owned() } else { image.repo_tags.join(", ") }
}

impl Node {
    fn add(&mut self, image: &TreeImage) {
        let mut at = self;
        for layer in &image.layers {
            at = at.above.entry(layer.diff_id.clone()).or_default();
            at.size = layer.size;
        }
        at.images.push(called(image));
    }

    /// `indent` is what stands before the branches of this node; those of the root have no bends.
    fn draw(&self, table: &mut Table, indent: &str, is_root: bool) {
        if is_root && !self.images.is_empty() {
            table.line(&format!("(no layers)\t0B\t{}", self.images.join(", ")));
        }
        let last = self.above.len().saturating_sub(1);
        for (at, (diff_id, node)) in self.above.iter().enumerate() {
            let (bend, below) = match (is_root, at == last) {
                (true, _) => ("", ""),
                (false, true) => ("└─ ", "   "),
                (false, false) => ("├─ ", "│  "),
            };
            let bytes = human_decimal(node.size as f64);
            table.line(&format!("{indent}{bend}{}\t{bytes}\t{}", short_id(diff_id), node.images.join(", ")));
            node.draw(table, &format!("{indent}{below}"), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::image::TreeLayer;

    #[test]
    fn branches_are_drawn() {
        let layer = |letter: &str| TreeLayer { diff_id: format!("sha256:{}", letter.repeat(64)), size: 1000 };
        let image = |name: &str, layers: &str| TreeImage {
            id: format!("sha256:{}", "f".repeat(64)),
            repo_tags: if name.is_empty() { vec![] } else { vec![name.to_owned()] },
            size: 3000,
            shared: 1000,
            containers: 1,
            layers: layers.split_terminator("").skip(1).map(layer).collect(),
        };
        let answer =
            Answer { total: 5000, images: vec![image("one", "abc"), image("two", "abd"), image("", "a")] };
        let expected = "\
LAYER                SIZE      IMAGES
aaaaaaaaaaaa         1kB       ffffffffffff
└─ bbbbbbbbbbbb      1kB       
   ├─ cccccccccccc   1kB       one
   └─ dddddddddddd   1kB       two

IMAGE          SIZE      SHARED    UNIQUE    CONTAINERS
one            3kB       1kB       2kB       1
two            3kB       1kB       2kB       1
ffffffffffff   3kB       1kB       2kB       1

All images together take 5kB.
";
        assert_eq!(draw(&answer), expected);
    }
}
