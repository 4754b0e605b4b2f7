// Writes integration/testdata/provider.json: what a version of the AWS provider has of the types that the Terraform
// modules use. It reads bindings of the provider, unpacked from npm: names from those of CDK Terrain, and deprecations
// from Pulumi's, which keep the provider's own messages. For a newer provider:
//   npm pack @cdktn/provider-aws @pulumi/aws, unpack both, and
//   node integration/provider-schema.mjs CDKTN PULUMI >integration/testdata/provider.json
import { existsSync, readFileSync } from "node:fs";

const [cdktn, pulumi] = process.argv.slice(2);

// By type, where Pulumi has it.
const types = {
  "data.aws_ami": "ec2/getAmi",
  "data.aws_caller_identity": "getCallerIdentity",
  "data.aws_ec2_instance_type_offerings": "ec2/getInstanceTypeOfferings",
  "data.aws_region": "getRegion",
  "data.aws_s3_objects": "s3/getObjects",
  "data.aws_service": "getService",
  "data.aws_subnet": "ec2/getSubnet",
  "data.aws_subnets": "ec2/getSubnets",
  "data.aws_vpc": "ec2/getVpc",
  aws_autoscaling_group: "autoscaling/group",
  aws_chatbot_slack_channel_configuration: "chatbot/slackChannelConfiguration",
  aws_cloudwatch_event_api_destination: "cloudwatch/eventApiDestination",
  aws_cloudwatch_event_connection: "cloudwatch/eventConnection",
  aws_cloudwatch_event_rule: "cloudwatch/eventRule",
  aws_cloudwatch_event_target: "cloudwatch/eventTarget",
  aws_cloudwatch_metric_alarm: "cloudwatch/metricAlarm",
  aws_eip: "ec2/eip",
  aws_eip_association: "ec2/eipAssociation",
  aws_iam_instance_profile: "iam/instanceProfile",
  aws_iam_openid_connect_provider: "iam/openIdConnectProvider",
  aws_iam_policy: "iam/policy",
  aws_iam_role: "iam/role",
  aws_iam_role_policy: "iam/rolePolicy",
  aws_iam_role_policy_attachment: "iam/rolePolicyAttachment",
  aws_instance: "ec2/instance",
  aws_kms_grant: "kms/grant",
  aws_kms_key: "kms/key",
  aws_launch_template: "ec2/launchTemplate",
  aws_route53_record: "route53/record",
  aws_route53_zone: "route53/zone",
  aws_s3_bucket: "s3/bucket",
  aws_s3_bucket_lifecycle_configuration: "s3/bucketLifecycleConfiguration",
  aws_s3_bucket_notification: "s3/bucketNotification",
  aws_s3_bucket_ownership_controls: "s3/bucketOwnershipControls",
  aws_s3_bucket_policy: "s3/bucketPolicy",
  aws_s3_bucket_public_access_block: "s3/bucketPublicAccessBlock",
  aws_s3_bucket_server_side_encryption_configuration: "s3/bucketServerSideEncryptionConfiguration",
  aws_s3_bucket_versioning: "s3/bucketVersioning",
  aws_security_group: "ec2/securityGroup",
  aws_sns_topic: "sns/topic",
  aws_sns_topic_policy: "sns/topicPolicy",
  aws_sns_topic_subscription: "sns/topicSubscription",
  aws_sqs_queue: "sqs/queue",
  aws_sqs_queue_policy: "sqs/queuePolicy",
  aws_subnet: "ec2/subnet",
  aws_vpc: "ec2/vpc",
};

function bindings(type) {
  const folder = type.replace(/^data\.aws_/, "data_aws_").replace(/^aws_/, "").replaceAll("_", "-");
  return readFileSync(`${cdktn}/lib/${folder}/index.js`, "utf8").split("//# sourceMappingURL")[0];
}

// A type or block by its class: each attribute with whether it can only be read, each block with what it has.
function members(text, name) {
  const body = text.split(`\nclass ${name} extends `)[1]?.split("\n}\n")[0];
  if (body === undefined) throw new Error(`no class ${name}`);
  const blocks = {};
  for (const [, inner, block] of body.matchAll(/ = new (\w+)\(this, "(\w+)"/g)) {
    if (text.includes(`\nclass ${inner} extends `)) blocks[block] = members(text, inner.replace(/(List|Map)$/, "OutputReference"));
  }
  const found = {};
  for (const [, member, optional, required] of body.matchAll(/^ +\/\/ (\w+) - computed: \w+, optional: (\w+), required: (\w+)$/gm)) {
    found[member] = blocks[member] ?? (optional === "true" || required === "true" ? "" : "read-only");
  }
  return found;
}

// Properties of Pulumi's interfaces that are deprecated, by interface: { property: message }, and where each leads.
const interfaces = {};
function read(text, indent) {
  for (const [, name, body] of text.matchAll(new RegExp(`^${indent}(?:export )?(?:declare )?(?:interface|class) (\\w+)[^{]*\\{\n(.*?)^${indent}\\}`, "gms"))) {
    const found = (interfaces[name] ??= {});
    for (const [, comment, property, type] of body.matchAll(/^ +\/\*\*((?:(?!\*\/).)*?)\*\/\s*(?:readonly )?(\w+)\??: ([^;\n]*)/gms)) {
      const message = comment.match(/@deprecated ([^\n]*)/)?.[1];
      const inner = type.match(/(?:inputs|outputs)(?:\.\w+)*\.(\w+)/)?.[1];
      found[property] = { message: message ?? found[property]?.message, inner: inner ?? found[property]?.inner };
    }
  }
}
for (const file of ["input", "output"]) read(readFileSync(`${pulumi}/types/${file}.d.ts`, "utf8"), "    ");

function camel(name) {
  const plain = name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
  return [plain, `${plain}s`, `${plain}es`, plain.replace(/y$/, "ies")];
}

function deprecate(found, names) {
  for (const [member, value] of Object.entries(found)) {
    const properties = names.flatMap((name) => camel(member).map((property) => interfaces[name]?.[property]).filter(Boolean));
    const message = properties.find((p) => p.message)?.message;
    if (typeof value === "object") deprecate(value, properties.map((p) => p.inner).filter(Boolean));
    if (message) found[member] = `deprecated: ${message}`;
  }
}

const version = bindings("aws_instance").match(/providerVersion: '([^']+)'/)[1];
const rows = Object.entries(types).map(([type, path]) => {
  const text = bindings(type);
  const main = text.match(/\nclass (\w+) extends cdktn\.Terraform(?:Resource|DataSource) /)[1];
  const file = `${pulumi}/${path}.d.ts`;
  if (!existsSync(file)) throw new Error(`no ${file}`);
  const name = path.split("/").at(-1).replace(/^./, (letter) => letter.toUpperCase());
  const names = [name, `${name}Args`, `${name}Result`, `${name}State`];
  for (const one of names) delete interfaces[one];
  read(readFileSync(file, "utf8"), "");
  const found = members(text, main);
  deprecate(found, names);
  return `  ${JSON.stringify(type)}: ${JSON.stringify(found)}`;
});
console.log(`{\n  "version": ${JSON.stringify(version)},\n${rows.join(",\n")}\n}`);
