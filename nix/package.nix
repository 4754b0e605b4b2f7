{ lib, buildGoModule, installShellFiles, stdenv, version ? "devel" }:
buildGoModule {
  pname = "npcnix";
  inherit version;

  # What is built, and what `go mod vendor` looks at; so a change of the docs builds nothing.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.fileFilter (file: file.hasExt "go" || builtins.elem file.name [ "go.mod" "go.sum" ]) ../.;
  };
  vendorHash = "sha256-hVbcF5vqdEjcGTKyA9gT4v3HGx4czP5EWsLCNatjgVg=";

  subPackages = [ "cmd/npcnix" ];
  env.CGO_ENABLED = "0";
  ldflags = [ "-s" "-w" "-X main.version=${version}" ];

  # The program makes its man pages and completions itself, and so must run where it is built.
  nativeBuildInputs = [ installShellFiles ];
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    $out/bin/npcnix manual man
    installManPage man/*.1
    installShellCompletion --cmd npcnix \
      --bash <($out/bin/npcnix completion bash) \
      --zsh <($out/bin/npcnix completion zsh) \
      --fish <($out/bin/npcnix completion fish)
  '';

  # The tests need real nix, systemd and simulated AWS services, which the sandbox cannot have. `make
  # test` runs them.
  doCheck = false;

  meta = {
    description = "Keeps NixOS hosts at the configuration in a store";
    license = lib.licenses.mit;
    mainProgram = "npcnix";
    platforms = lib.platforms.linux ++ lib.platforms.darwin;
  };
}
