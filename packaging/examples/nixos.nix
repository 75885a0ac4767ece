# A module for NixOS. In a configuration:
#
#   imports = [ ./nixos.nix ];
#   services.infisical-gateway = {
#     enable = true;
#     name = "office";
#     tokenFile = "/var/keys/enrollment-token";
#   };
{ config, lib, pkgs, ... }:

let
  cfg = config.services.infisical-gateway;

  # The portable program of a release, with the C library of NixOS.
  program = pkgs.stdenv.mkDerivation {
    pname = "infisical-gateway";
    inherit (cfg) version;
    src = cfg.source;
    dontUnpack = true;
    nativeBuildInputs = [ pkgs.autoPatchelfHook ];
    buildInputs = [ pkgs.stdenv.cc.cc.lib ];
    installPhase = ''
      install -D -m 0755 $src $out/bin/infisical-gateway
      ln -s infisical-gateway $out/bin/infisical
    '';
  };
in
{
  options.services.infisical-gateway = {
    enable = lib.mkEnableOption "the Infisical gateway";
    source = lib.mkOption {
      type = lib.types.path;
      default = ./infisical-gateway;
      description = "The portable program, or what fetches it.";
    };
    version = lib.mkOption {
      type = lib.types.str;
      default = "0.1.0";
      description = "The program's version.";
    };
    name = lib.mkOption {
      type = lib.types.str;
      description = "Name of the gateway.";
    };
    domain = lib.mkOption {
      type = lib.types.str;
      default = "https://app.infisical.com";
      description = "Address of the platform.";
    };
    tokenFile = lib.mkOption {
      type = lib.types.str;
      description = "File with the enrollment token, outside of the store: every user can read that.";
    };
    extraArguments = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      description = "Further arguments of `infisical gateway start`.";
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ program ];

    systemd.services.infisical-gateway = {
      description = "Infisical gateway";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" "nss-lookup.target" ];
      startLimitIntervalSec = 0;
      # Where the access token is kept that the enrollment token is exchanged for.
      environment.HOME = "/var/lib/infisical-gateway";
      serviceConfig = {
        Type = "notify";
        NotifyAccess = "main";
        ExecStart = lib.escapeShellArgs ([
          "${program}/bin/infisical-gateway"
          "gateway"
          "start"
          cfg.name
          "--enroll-method=token"
          "--token-file=%d/enrollment-token"
          "--domain=${cfg.domain}"
        ] ++ cfg.extraArguments);
        LoadCredential = "enrollment-token:${cfg.tokenFile}";
        DynamicUser = true;
        StateDirectory = "infisical-gateway";
        StateDirectoryMode = "0700";
        RuntimeDirectory = "infisical-gateway";
        # A stop waits for running sessions.
        TimeoutStopSec = 40;
        KillMode = "mixed";
        WatchdogSec = 30;
        Restart = "on-failure";
        RestartSec = 5;
        # Wrong usage, a refused identity, a wrong configuration: no repetition helps.
        RestartPreventExitStatus = "64 77 78";
        LimitNOFILE = 65536;
        LimitCORE = 0;
        UMask = "0077";
        CapabilityBoundingSet = "";
        NoNewPrivileges = true;
        PrivateUsers = true;
        ProtectSystem = "strict";
        ProtectHome = true;
        PrivateTmp = true;
        PrivateDevices = true;
        ProtectProc = "invisible";
        ProcSubset = "pid";
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        RestrictAddressFamilies = [ "AF_UNIX" "AF_INET" "AF_INET6" "AF_NETLINK" ];
        SocketBindDeny = "any";
        SocketBindAllow = "udp";
        SystemCallArchitectures = "native";
        SystemCallFilter = [ "@system-service" "~@privileged @resources" ];
        SystemCallErrorNumber = "EPERM";
      };
    };
  };
}
