# What another apply with other input changes of a host that runs. The account is made up.

mock_provider "aws" {
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/host" }
  }
}

variables {
  remote = {
    name     = "dev"
    filename = "dev.npcnix"
    bucket   = { id = "acme", arn = "arn:aws:s3:::acme" }
    key      = "npcnix/remotes/dev.npcnix"
    url      = "s3://acme/npcnix/remotes/dev.npcnix"
    region   = "eu-central-1"
    events   = false
  }
  hostname           = "web1"
  ami                = "ami-1"
  subnet             = { id = "subnet-b", vpc_id = "vpc-1" }
  internal_tcp_ports = []
}

run "a_host" {
  assert {
    condition     = aws_instance.host[0].ami == "ami-1" && aws_instance.host[0].subnet_id == "subnet-b"
    error_message = "The host is not made of the image, or not in the subnet."
  }
}

run "another_image_and_another_subnet_leave_it_as_it_is" {
  command = plan

  variables {
    ami    = "ami-2"
    subnet = { id = "subnet-a", vpc_id = "vpc-1" }
  }

  assert {
    condition     = aws_instance.host[0].ami == "ami-1" && aws_instance.host[0].subnet_id == "subnet-b"
    error_message = "A host that runs is replaced for another image or subnet."
  }
}
