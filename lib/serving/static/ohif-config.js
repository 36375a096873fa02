// What OHIF reads first. The server puts `const server = {…}` in front; lib/serving/routes/ohif.py says what is in it.
(() => {
  const TOKEN = 'label-refinery-token';

  // The address may bring a token along: it is kept for this tab, so that the page can be loaded again.
  const page = new URL(window.location);
  if (page.searchParams.has('token')) {
    window.sessionStorage.setItem(TOKEN, page.searchParams.get('token'));
    page.searchParams.delete('token');
    window.history.replaceState(null, '', page);
  }

  const loadBar = () => {
    if (server.bar) {
      const style = Object.assign(document.createElement('link'), { rel: 'stylesheet', href: `${server.bar}.css` });
      const script = Object.assign(document.createElement('script'), { type: 'module', src: `${server.bar}.js` });
      document.head.append(style, script);
    }
  };

  const signIn = {
    id: '@label-refinery/sign-in',
    preRegistration: async ({ servicesManager }) => {
      // Read anew each time: somebody may sign in again while the page is open.
      const headers = () => ({ Authorization: `Bearer ${window.sessionStorage.getItem(TOKEN)}` });
      const { userAuthenticationService } = servicesManager.services;
      userAuthenticationService.setServiceImplementation({ getAuthorizationHeader: headers });
      const reply = await fetch('/auth/token/valid', { headers: headers() });
      if (reply.status === 401) {
        window.sessionStorage.removeItem(TOKEN);
        // What was open is opened once they have signed in.
        window.location.replace(`/open?${new URLSearchParams({ address: page.pathname + page.search })}`);
      } else {
        loadBar();
      }
    },
  };

  const withTools = (toolbarService, section, tools) => {
    toolbarService.clearButtonSection(section);
    toolbarService.updateSection(section, tools);
  };

  const TOOLS = ['BrushTools', 'Shapes', 'LabelMapEditWithContour'];

  // OHIF's own segmentation mode, with one image at a time, the one that the address names, and without the tools that
  // fetch something from another host: two a network, Interpolate a program. The one-click tool computes by WebGPU, and
  // would do nothing, without a word, where the browser has none.
  const segmentation = {
    id: '@ohif/mode-segmentation',
    modeFactory: async ({ loadModules }) => {
      const [original] = await loadModules(['@ohif/mode-segmentation']);
      const mode = original.modeFactory({ modeConfiguration: {} });
      mode.hangingProtocol = 'default';
      const enter = mode.onModeEnter;
      mode.onModeEnter = managers => {
        enter(managers);
        const { toolbarService } = managers.servicesManager.services;
        withTools(toolbarService, 'LabelMapTools', TOOLS);
        withTools(toolbarService, 'LabelMapUtilities', ['SegmentBidirectional']);
        navigator.gpu?.requestAdapter().then(
          adapter => adapter && withTools(toolbarService, 'LabelMapTools', [...TOOLS, 'RegionSegmentPlus']),
          () => {}
        );
      };
      return mode;
    },
  };

  // A mode that is known already is not taken from the build: so these are left out of the list of studies.
  const leftOut = [
    '@ohif/mode-basic', '@ohif/mode-tmtv', '@ohif/mode-microscopy', '@ohif/mode-preclinical-4d',
    '@ohif/mode-ultrasound-pleura-bline',
  ].map(id => ({ id, modeFactory: () => null }));

  // A library inside OHIF (onnxruntime-web) asks for this name where no script is running, as when a style sheet is the
  // last file to arrive; without it the page then stays empty.
  window.__filename = '';

  window.config = {
    routerBasename: server.address,
    showStudyList: true,
    extensions: server.signIn ? [signIn] : [],
    modes: server.canStore ? [segmentation, '@ohif/mode-longitudinal', ...leftOut] : [],
    customizationService: {},
    investigationalUseDialog: { option: 'never' },
    showWarningMessageForCrossOrigin: false,
    showCPUFallbackMessage: true,
    showLoadingIndicator: true,
    strictZSpacingForVolumeViewport: true,
    useSharedArrayBuffer: 'FALSE',
    // A segmentation opens without a question.
    disableConfirmationPrompts: true,
    defaultDataSourceName: 'dicomweb',
    dataSources: [
      {
        namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
        sourceName: 'dicomweb',
        configuration: {
          friendlyName: 'Label Refinery',
          name: 'dicomweb',
          qidoRoot: server.dicomweb,
          wadoRoot: server.dicomweb,
          wadoUriRoot: server.dicomweb,
          qidoSupportsIncludeField: true,
          supportsReject: false,
          supportsStow: true,
          imageRendering: 'wadors',
          thumbnailRendering: 'wadors',
          enableStudyLazyLoad: true,
          supportsFuzzyMatching: false,
          supportsWildcard: true,
          dicomUploadEnabled: false,
          omitQuotationForMultipartRequest: true,
          bulkDataURI: { enabled: true },
        },
      },
    ],
  };

  // MONAI Label's panel asks the server that this cookie names.
  document.cookie = `MONAILABEL_SERVER_URL=${encodeURIComponent(`${window.location.origin}/`)}`;

  if (!server.signIn) {
    loadBar();
  }
})();
